"""Snapshots that something happened to: refused by name, and nothing else is another for it."""

import json
import os
import subprocess
import uuid
from contextlib import contextmanager

import pytest

from vibe_cli import EXAMPLES, Failed, eventually, get, post, probe, write_app


def directory_of(vibe, project):
    return f"/run/vibe/data/projects/{project['id']}"


def in_machine(vibe, *command):
    subprocess.run(["nsenter", f"--target={vibe.machine_init()}", "--mount", *map(str, command)], check=True,
                   stdout=subprocess.DEVNULL)


def complete(vibe, name, snapshot):
    def found():
        listed = [s for s in vibe.json("snapshots", name)["snapshots"] if s["id"] == snapshot]
        return listed[0] if listed and listed[0]["complete"] else None
    return eventually(found, timeout=90, what="all about the snapshot")


@contextmanager
def writable(vibe, state):
    in_machine(vibe, "btrfs", "property", "set", "-f", state, "ro", "false")
    yield vibe.inside(state)
    in_machine(vibe, "btrfs", "property", "set", "-f", state, "ro", "true")


@pytest.fixture(scope="module")
def project(vibe, tmp_path_factory):
    app = write_app(tmp_path_factory.mktemp("damaged") / "app",
                    [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}], stateVolumes=["files:/files"])],
                    state={"volumes": [{"name": "files"}]})
    return vibe.open(app, name="damaged")


@pytest.fixture
def untouched(vibe, project):
    """The app runs, with what it had, whatever was refused."""
    current = vibe.inside(f"{directory_of(vibe, project)}/current/volumes/files")
    mark = str(uuid.uuid4())
    (current / "mark").write_text(mark)
    device = os.stat(vibe.inside(f"{directory_of(vibe, project)}/current")).st_dev
    yield
    assert (current / "mark").read_text() == mark
    assert os.stat(vibe.inside(f"{directory_of(vibe, project)}/current")).st_dev == device, "the state was replaced"
    assert vibe.service("damaged", "web")["status"] == "running" and get(project["url"]) == "hello\n"


def refused(vibe, *command, reason):
    with pytest.raises(Failed) as failed:
        vibe.json(*command)
    error = json.loads(failed.value.out)["error"]
    assert error["reason"] == reason, error
    return error["message"]


def ids(vibe):
    return [snapshot["id"] for snapshot in vibe.json("snapshots", "damaged")["snapshots"]]


def test_a_byte_that_changed_is_found_by_verify(vibe, project, untouched):
    files = f"{directory_of(vibe, project)}/current/volumes/files"
    (vibe.inside(files) / "data").write_bytes(b"a" * 100_000)
    saved = complete(vibe, "damaged", vibe.json("save", "damaged")["id"])["id"]
    with writable(vibe, f"{directory_of(vibe, project)}/snapshots/{saved}/state") as state:
        with open(state / "volumes/files/data", "r+b") as file:
            file.seek(70_000)
            file.write(b"b")
    before = ids(vibe)
    started = vibe.service("damaged", "web")["startedAt"]
    message = refused(vibe, "restore", "damaged", saved, "--verify", reason="SNAPSHOT_MISMATCH")
    assert saved in message and "volume files" in message and "is as it was" in message, message
    assert ids(vibe) == before, "a safety snapshot of nothing"
    assert vibe.service("damaged", "web")["startedAt"] == started, "the app was stopped for nothing"


def test_a_missing_subvolume(vibe, project, untouched):
    saved = vibe.json("save", "damaged")["id"]
    complete(vibe, "damaged", saved)
    in_machine(vibe, "btrfs", "subvolume", "delete", f"{directory_of(vibe, project)}/snapshots/{saved}/state")
    before = ids(vibe)
    assert saved in before, "it vanished without a word"
    for command in (["restore", "damaged", saved], ["duplicate", "damaged", "never", "--from", saved]):
        message = refused(vibe, *command, reason="SNAPSHOT_MISMATCH")
        assert saved in message and "its subvolume is missing" in message, message
    assert vibe.project("never") is None and ids(vibe) == before
    assert f"{saved[:8]}: cannot be restored: " in vibe("snapshots", "damaged")
    vibe("snapshot", "rm", "damaged", saved)


def test_metadata_from_the_future(vibe, project, untouched):
    saved = vibe.json("save", "damaged")["id"]
    complete(vibe, "damaged", saved)
    file = vibe.inside(f"{directory_of(vibe, project)}/snapshots/{saved}/metadata.json")
    present = file.read_text()
    future = json.dumps({**json.loads(present), "schemaVersion": 2, "more": "than this version knows"})
    file.write_text(future)
    before = ids(vibe)
    for command in (["restore", "damaged", saved], ["duplicate", "damaged", "never", "--from", saved],
                    ["snapshot", "rm", "damaged", saved]):
        message = refused(vibe, *command, reason="SNAPSHOT_MISMATCH")
        assert saved in message and "newer version" in message, message
    assert vibe.project("never") is None and ids(vibe) == before
    assert file.read_text() == future and "newer version" in vibe("snapshots", "damaged")
    file.write_text(present)
    vibe("snapshot", "rm", "damaged", saved)


def test_a_snapshot_of_another_project(vibe, project, untouched, tmp_path):
    other = vibe.open(write_app(tmp_path / "other", [probe(stateVolumes=["files:/files"])],
                                state={"volumes": [{"name": "files"}]}), name="other")
    theirs = vibe.json("save", "other")["id"]
    complete(vibe, "other", theirs)
    before = ids(vibe)
    for command in (["restore", "damaged", theirs], ["snapshot", "rm", "damaged", theirs]):
        assert theirs in refused(vibe, *command, reason="NOT_FOUND")
    # Somebody puts it into this project's folder and list.
    here = vibe.inside(directory_of(vibe, project))
    state = f"{directory_of(vibe, project)}/snapshots/{theirs}"
    in_machine(vibe, "mkdir", state)
    in_machine(vibe, "cp", f"{directory_of(vibe, other)}/snapshots/{theirs}/metadata.json", state)
    in_machine(vibe, "btrfs", "subvolume", "snapshot", "-r", f"{directory_of(vibe, other)}/snapshots/{theirs}/state",
               f"{state}/state")
    index = json.loads((here / "index.json").read_text())
    (here / "index.json").write_text(json.dumps({**index, "snapshots": [*index["snapshots"], theirs]}))
    message = refused(vibe, "restore", "damaged", theirs, reason="SNAPSHOT_MISMATCH")
    assert theirs in message and "another project's" in message, message
    vibe("snapshot", "rm", "damaged", theirs)
    assert ids(vibe) == before
    assert [s["id"] for s in vibe.json("snapshots", "other")["snapshots"]] == [theirs]
    vibe("rm", "other", "--yes")


def test_a_truncated_index(vibe, project, untouched):
    saved = vibe.json("save", "damaged")["id"]
    complete(vibe, "damaged", saved)
    before = ids(vibe)
    index = vibe.inside(f"{directory_of(vibe, project)}/index.json")
    half = index.read_text()[:len(index.read_text()) // 2]
    index.write_text(half)
    for command in (["restore", "damaged", saved], ["save", "damaged"], ["snapshot", "rm", "damaged", saved],
                    ["snapshots", "damaged"], ["duplicate", "damaged", "never", "--from", saved]):
        message = refused(vibe, *command, reason="SNAPSHOT_MISMATCH")
        assert "index.json is damaged" in message, f"{command}: {message}"
    assert index.read_text() == half and vibe.project("never") is None
    # The next start makes it anew, of what there is.
    vibe.kill("vibe-supervisor")
    eventually(lambda: vibe.run("snapshots", "damaged").returncode == 0, timeout=30, what="the list")
    assert ids(vibe) == before


def test_a_dump_that_fails_is_told(vibe):
    """The database cannot be dumped: the snapshot has its files alone, says so, and comes back all the same."""
    bookmarks = vibe.open(EXAMPLES / "bookmarks")
    sql = ["exec", "bookmarks", "-s", "db", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "bookmarks"]
    vibe(*sql, "-d", "bookmarks", "-c", "CREATE DATABASE broken")
    vibe(*sql, "-d", "broken", "-c", "CREATE VIEW lost AS SELECT 1 AS one",
         "-c", "DELETE FROM pg_rewrite WHERE ev_class = 'lost'::regclass")
    post(f"{bookmarks['url']}/api/bookmarks", {"url": "https://example.com/", "title": "saved"})
    saved = vibe.json("save", "bookmarks")["id"]
    (volume,) = complete(vibe, "bookmarks", saved)["volumes"]
    assert volume["rawOnly"] is True and volume["dumpFormat"] == ""
    assert "lost" in volume["problem"], f"it does not say what is wrong: {volume}"
    listed = vibe("snapshots", "bookmarks")
    assert f"{saved[:8]}: volume data: " in listed and volume["problem"] in listed, listed
    dumps = vibe.inside(f"{directory_of(vibe, bookmarks)}/snapshots/{saved}/dumps")
    assert not dumps.exists() or not list(dumps.iterdir()), "half a dump was kept"
    post(f"{bookmarks['url']}/api/bookmarks", {"url": "https://example.org/", "title": "later"})
    vibe("restore", "bookmarks", saved, "--verify")
    titles = {bookmark["title"] for bookmark in json.loads(get(f"{bookmarks['url']}/api/bookmarks"))["bookmarks"]}
    assert titles == {"saved"}

    # Another major version would need the dump.
    with writable(vibe, f"{directory_of(vibe, bookmarks)}/snapshots/{saved}/state") as state:
        (state / "volumes/data/PG_VERSION").write_text("14\n")
    before = [snapshot["id"] for snapshot in vibe.json("snapshots", "bookmarks")["snapshots"]]
    started = vibe.service("bookmarks", "db")["startedAt"]
    message = refused(vibe, "restore", "bookmarks", saved, reason="RESTORE_FAILED")
    assert "there is no dump" in message and "is as it was" in message, message
    assert "open a version of the app that has Postgres 14" in vibe.fails("restore", "bookmarks", saved)
    after = [snapshot["id"] for snapshot in vibe.json("snapshots", "bookmarks")["snapshots"]]
    assert after == before, "a safety snapshot of nothing"
    assert vibe.service("bookmarks", "db")["startedAt"] == started, "the app was stopped for nothing"
    titles = {bookmark["title"] for bookmark in json.loads(get(f"{bookmarks['url']}/api/bookmarks"))["bookmarks"]}
    assert titles == {"saved"}
    vibe(*sql, "-d", "bookmarks", "-c", "DROP DATABASE broken")
    again = vibe.json("save", "bookmarks")["id"]
    (volume,) = complete(vibe, "bookmarks", again)["volumes"]
    assert volume["dumpFormat"] == "pg_dump_custom" and not volume["rawOnly"]
