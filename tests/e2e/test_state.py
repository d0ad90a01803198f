"""What a user saved comes back, and nothing of it is lost on the way."""

import json
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from vibe_cli import EXAMPLES, Failed, Vibe, eventually, get, post, probe, write_app


def titles(url):
    return {bookmark["title"] for bookmark in json.loads(get(f"{url}/api/bookmarks"))["bookmarks"]}


def notes_of(url):
    with urllib.request.urlopen(f"{url}/api/notes") as response:
        return {note["title"] for note in json.loads(response.read())["notes"]}


def complete(vibe, name, snapshot, patience=60):
    """The snapshot when everything about it is known."""
    deadline = time.monotonic() + patience
    while True:
        (found,) = [s for s in vibe.json("snapshots", name)["snapshots"] if s["id"] == snapshot]
        if found["complete"] or time.monotonic() > deadline:
            assert found["complete"], f"still incomplete after {patience} s: {found}"
            return found
        time.sleep(0.1)


@pytest.fixture(scope="module")
def notes(vibe):
    return vibe.open(EXAMPLES / "notes")


@pytest.fixture(scope="module")
def bookmarks(vibe):
    return vibe.open(EXAMPLES / "bookmarks")


def test_a_restore_brings_back_what_was_saved_and_can_be_undone(vibe, notes):
    post(f"{notes['url']}/api/notes", {"title": "saved", "body": ""})
    saved = vibe.json("save", "notes", "-m", "before the change", "--label", "kind=test", "--label", "by=me")
    assert saved["reason"] == "manual" and saved["labels"] == {"kind": "test", "by": "me"}
    post(f"{notes['url']}/api/notes", {"title": "later", "body": ""})

    restored = vibe.json("restore", "notes", saved["id"])
    assert restored["project"]["status"] == "running" and restored["project"]["url"] == notes["url"]
    assert notes_of(notes["url"]) == {"saved"}

    (newest, *_) = vibe.json("snapshots", "notes")["snapshots"]
    assert newest["id"] == restored["safetySnapshot"] and newest["reason"] == "before-restore"
    vibe("restore", "notes", restored["safetySnapshot"], "--no-safety")
    assert notes_of(notes["url"]) == {"saved", "later"}, "the restore cannot be undone"
    assert "before the change" in vibe("snapshots", "notes")


def test_what_is_found_out_about_a_snapshot_later(vibe, notes):
    saved = vibe.json("save", "notes")
    found = complete(vibe, "notes", saved["id"])
    (volume,) = found["volumes"]
    assert volume["name"] == "data" and volume["consistency"] == "sqlite"
    assert volume["integrityCheck"] == "ok" and volume["digest"].startswith("sha256:")
    assert found["stateDigest"].startswith("sha256:") and found["sizeBytes"] > 0
    assert found["pauseMicros"] < 1_000_000
    vibe("restore", "notes", saved["id"], "--verify")


def test_an_app_with_postgres_goes_back(vibe, bookmarks):
    url = bookmarks["url"]
    post(f"{url}/api/bookmarks", {"url": "https://example.com/", "title": "saved"})
    saved = vibe.json("save", "bookmarks")
    post(f"{url}/api/bookmarks", {"url": "https://example.org/", "title": "later"})
    vibe("restore", "bookmarks", saved["id"][:8])
    assert titles(url) == {"saved"}


def test_a_snapshot_of_postgres_has_a_dump_of_the_same_instant(vibe, bookmarks, tmp_path):
    url = bookmarks["url"]
    post(f"{url}/api/bookmarks", {"url": "https://example.com/dump", "title": "in the dump"})
    saved = vibe.json("save", "bookmarks")
    post(f"{url}/api/bookmarks", {"url": "https://example.com/no", "title": "not in the dump"})
    (volume,) = complete(vibe, "bookmarks", saved["id"])["volumes"]
    assert volume["dumpFormat"] == "pg_dump_custom" and not volume["rawOnly"] and not volume["problem"]
    dumps = vibe.inside(f"/run/vibe/data/projects/{bookmarks['id']}/snapshots/{saved['id']}/dumps")
    with tarfile.open(dumps / "data.dump") as dump:
        databases = dump.extractfile("databases").read().decode().splitlines()
        assert "bookmarks" in databases
        custom = dump.extractfile(f"{databases.index('bookmarks')}.dump").read()
        assert custom.startswith(b"PGDMP") and b"ROLE" in dump.extractfile("globals.sql").read()
    target = vibe.inside(f"/run/vibe/data/projects/{bookmarks['id']}/current/volumes/data/e2e.dump")
    target.write_bytes(custom)  # where the database's container sees it
    sql = vibe("exec", "bookmarks", "-s", "db", "--", "pg_restore", "-f", "-",
               "/var/lib/postgresql/data/e2e.dump")
    target.unlink()
    assert "in the dump" in sql and "not in the dump" not in sql


def test_a_cluster_of_another_major_version_comes_from_the_dump(vibe, bookmarks):
    """The snapshot's cluster is made to say that it is of an older version; its dump is as it was."""
    url = bookmarks["url"]
    before = titles(url)
    saved = vibe.json("save", "bookmarks")
    complete(vibe, "bookmarks", saved["id"])
    post(f"{url}/api/bookmarks", {"url": "https://example.com/14", "title": "later than 14"})
    state = f"/run/vibe/data/projects/{bookmarks['id']}/snapshots/{saved['id']}/state"

    def read_only(value):
        subprocess.run(["nsenter", f"--target={vibe.machine_init()}", "--mount", "btrfs", "property", "set", "-f",
                        state, "ro", value], check=True)

    read_only("false")
    (vibe.inside(state) / "volumes/data/PG_VERSION").write_text("14\n")
    read_only("true")
    vibe("restore", "bookmarks", saved["id"], timeout=240)
    assert titles(url) == before
    current = vibe.inside(f"/run/vibe/data/projects/{bookmarks['id']}/current")
    assert (current / "volumes/data/PG_VERSION").read_text() == "15\n"
    assert vibe("exec", "bookmarks", "-s", "db", "--", "psql", "-A", "-t", "-U", "bookmarks", "-c",
                "SHOW data_checksums").strip() == "on"
    assert not (current / ".vibe-postgres").exists()
    post(f"{url}/api/bookmarks", {"url": "https://example.com/on", "title": "and on"})
    assert "and on" in titles(url)


def test_an_app_that_moves_to_a_newer_postgres_takes_its_data_along(vibe, tmp_path):
    """PostgreSQL 17 cannot read a cluster of 15: restored under it, the snapshot comes from its dump."""
    def app(version):
        database = {"name": "db", "image": f"vibe-examples/postgres:{version}",
                    "env": {"POSTGRES_USER": "books", "POSTGRES_PASSWORD": "books"},
                    "stateVolumes": ["data:/var/lib/postgresql/data"],
                    "healthcheck": {"test": ["CMD", "pg_isready", "-q", "-U", "books", "-h", "/run/postgresql"],
                                    "interval": "1s", "startPeriod": "1m"}}
        return write_app(tmp_path / str(version), [database],
                         images=["postgres" if version == 15 else f"postgres{version}"], version=f"{version}.0.0",
                         state={"volumes": [{"name": "data", "consistency": "postgres"}]})

    def sql(statement):
        return vibe("exec", "books", "-s", "db", "--", "psql", "-X", "-A", "-t", "-U", "books", "-c", statement).strip()

    opened = vibe.open(app(15), name="books")
    sql("CREATE ROLE reader; CREATE TABLE book (id serial PRIMARY KEY, title text);"
        "GRANT SELECT ON book TO reader; INSERT INTO book (title) SELECT 'Ünïcode ' || n FROM generate_series(1, 1000) n")
    rows = "SELECT md5(string_agg(id || title, ',' ORDER BY id)), has_table_privilege('reader', 'book', 'SELECT') FROM book"
    before = sql(rows)
    saved = vibe.json("save", "books")["id"]
    complete(vibe, "books", saved)
    error = vibe.fails("open", app(17), "--yes", "--name", "books")
    assert "holds a cluster of PostgreSQL 15, and this is PostgreSQL 17" in error, "a newer PostgreSQL ran on the old files"
    kept = next(s for s in vibe.json("snapshots", "books")["snapshots"] if s["reason"] == "before-upgrade")
    assert f"to go back to version 15.0.0, `vibe restore books {kept['id']}`, then `vibe start books`" in error
    vibe("restore", "books", saved, timeout=240)
    vibe("start", "books")
    assert sql("SHOW server_version_num").startswith("17") and sql(rows) == before
    assert sql("INSERT INTO book (title) VALUES ('later') RETURNING id").splitlines()[0] == "1001", "the sequence began anew"
    cluster = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/data")
    assert (cluster / "PG_VERSION").read_text() == "17\n"

    # The other way: what 17 wrote is not for 15, and its dump holds more than 15 understands.
    upgrade = next(s for s in vibe.json("snapshots", "books")["snapshots"] if s["reason"] == "before-upgrade")
    vibe("stop", "books")
    vibe.run("open", app(15), "--yes", "--name", "books")  # fails on the files of 17
    vibe("restore", "books", upgrade["id"], timeout=240)
    vibe("start", "books")
    assert sql("SHOW server_version_num").startswith("15") and sql(rows) == before, "there is no way back"
    vibe("rm", "books", "--yes")


def test_another_version_of_the_app_can_be_rolled_back(vibe, tmp_path):
    """With its data, its files, its services and its ports; and forth again."""
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                             stateVolumes=["files:/files"])],
                    state={"volumes": [{"name": "files"}]})
    (app / "told").write_text("by version 1")
    opened = vibe.open(app, name="upgraded")
    volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")
    (volume / "format").write_text("of version 1")
    assert vibe.json("snapshots", "upgraded")["snapshots"] == []
    vibe.open(app, name="upgraded")
    assert vibe.json("snapshots", "upgraded")["snapshots"] == [], "the same version is no upgrade"
    manifest = app / "vibe.yaml"
    text = manifest.read_text()
    assert opened["version"] in text
    new = json.loads(text.replace(opened["version"], "9.0.0").replace("hello", "of nine"))
    new["services"].append(probe("more", ["serve", "9090", "more"], ports=[{"container": 9090}]))
    manifest.write_text(json.dumps(new))
    (app / "told").write_text("by version 9")
    upgraded = vibe.open(app, name="upgraded")
    assert upgraded["version"] == "9.0.0" and get(upgraded["url"]) == "of nine\n"
    (snapshot,) = vibe.json("snapshots", "upgraded")["snapshots"]
    assert snapshot["reason"] == "before-upgrade" and snapshot["appVersion"] == opened["version"]
    (volume / "format").write_text("of version 9")
    assert vibe.json("duplicate", "upgraded", "older", "--from", snapshot["id"])["version"] == opened["version"]
    vibe("grant", "older", "exposePorts")
    assert get(vibe.json("start", "older")["url"]) == "hello\n", "the copy is of the newer version"
    vibe("rm", "older", "--yes")
    restored = vibe.json("restore", "upgraded", snapshot["id"])
    assert restored["replacedVersion"] == "9.0.0"
    said = vibe("duplicate", "upgraded", "older")
    assert f"{app} no longer holds version {opened['version']}" in said
    for command in said.strip().rsplit(": ", 1)[1].split(" && "):
        vibe(*command.split()[1:])
    assert get(vibe.project("older")["url"]) == "hello\n", "what is said to start a copy does not start it"
    vibe("rm", "older", "--yes")

    def state_of_version(number, project, answer):
        volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")
        assert (volume / "format").read_text() == f"of version {number}"
        assert not (volume.parents[1] / "runtime/version").exists()
        assert project["version"] == vibe.project("upgraded")["version"] and get(project["url"]) == answer
        assert vibe("exec", "upgraded", "-s", "web", "--", "/probe", "read", "/app/told") == f"by version {number}"
        return [service["name"] for service in project["services"]]

    assert state_of_version(1, restored["project"], "hello\n") == ["web"]
    assert restored["project"]["version"] == opened["version"]
    # It is what is there from now on: after a stop, for a supervisor that was not there, without the folder.
    manifest.unlink()
    vibe.kill("vibe-supervisor")
    eventually(lambda: vibe.run("stop", "upgraded").returncode == 0, what="the stop")
    assert state_of_version(1, vibe.json("start", "upgraded"), "hello\n") == ["web"]

    forth = vibe.json("restore", "upgraded", restored["safetySnapshot"])
    assert state_of_version(9, forth["project"], "of nine\n") == ["web", "more"]
    assert forth["replacedVersion"] == opened["version"]
    assert f"is version {opened['version']} again, in the place of 9.0.0" in vibe("restore", "upgraded", snapshot["id"])
    packages = vibe.inside("/run/vibe/data/packages")
    before = len(list(packages.iterdir()))
    for kept in vibe.json("snapshots", "upgraded")["snapshots"]:
        vibe("snapshot", "rm", "upgraded", kept["id"])
    assert len(list(packages.iterdir())) == before - 1, "the version that no snapshot is of stays"
    vibe("rm", "upgraded", "--yes")


def test_a_version_that_is_not_there_any_more_is_asked_for(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe(stateVolumes=["files:/files"])], state={"volumes": [{"name": "files"}]})
    opened = vibe.open(app, name="again")
    directory = vibe.inside(f"/run/vibe/data/projects/{opened['id']}")
    (directory / "current/volumes/files/format").write_text("of version 1")
    manifest = app / "vibe.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace('"1.0.0"', '"2.0.0"'))
    vibe.open(app, name="again")
    (directory / "current/volumes/files/format").write_text("of version 2")
    vibe("rm", "again", "--keep-data", "--yes")
    vibe.open(app, name="again")
    (snapshot,) = vibe.json("snapshots", "again")["snapshots"]
    error = vibe.fails("restore", "again", snapshot["id"])
    assert snapshot["id"] in error and "is of version 1.0.0" in error
    assert "vibe open FOLDER --name again" in error
    assert len(vibe.json("snapshots", "again")["snapshots"]) == 1
    assert (directory / "current/volumes/files/format").read_text() == "of version 2"

    manifest.write_text(text)
    vibe.open(app, name="again")
    vibe("restore", "again", snapshot["id"])
    assert vibe.project("again")["version"] == "1.0.0"
    assert (directory / "current/volumes/files/format").read_text() == "of version 1"
    vibe("rm", "again", "--yes")


def test_data_that_was_kept_is_listed_until_it_is_deleted(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe(stateVolumes=["files:/files"])], state={"volumes": [{"name": "files"}]})
    opened = vibe.open(app, name="kept")
    directory = vibe.inside(f"/run/vibe/data/projects/{opened['id']}")
    vibe("save", "kept")
    assert "`vibe rm kept`" in vibe("rm", "kept", "--keep-data", "--yes")
    assert [kept["name"] for kept in vibe.json("ps")["kept"]] == ["kept"] and "kept" in vibe("ps")
    assert "`vibe rm kept` deletes it" in vibe.fails("start", "kept") and directory.exists()
    vibe("rm", "kept", "--yes")
    assert not directory.exists() and not vibe.json("ps")["kept"]
    assert "no project called kept" in vibe.fails("rm", "kept", "--yes")


def test_a_version_that_does_not_start_is_rolled_back(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                             stateVolumes=["files:/files"])],
                    state={"volumes": [{"name": "files"}]})
    opened = vibe.open(app, name="stumbling")
    manifest = app / "vibe.yaml"
    text = manifest.read_text()
    bad = json.loads(text.replace('"1.0.0"', '"2.0.0"'))
    bad["services"][0]["command"] = ["exit", "3"]
    manifest.write_text(json.dumps(bad))
    assert "web" in vibe.fails("open", app, "--yes", "--name", "stumbling")
    (snapshot,) = vibe.json("snapshots", "stumbling")["snapshots"]
    vibe("restore", "stumbling", snapshot["id"])
    assert get(vibe.json("start", "stumbling")["url"]) == "hello\n"

    # A supervisor that dies in the middle: the version is the one of the data.
    bad["services"][0]["command"] = ["serve", "8080", "two"]
    manifest.write_text(json.dumps(bad))
    assert get(vibe.open(app, name="stumbling")["url"]) == "two\n"
    written = vibe.inside(f"/run/vibe/data/projects/{opened['id']}") / "current/volumes/files/written"
    for delay in (0.03, 0.1, 0.15):
        written.write_text("by two\n")
        snapshot = next(s for s in vibe.json("snapshots", "stumbling")["snapshots"] if s["appVersion"] == "1.0.0")
        (pid,) = vibe.machine_processes("vibe-supervisor")
        killer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
        killer.start()
        vibe.run("restore", "stumbling", snapshot["id"])
        killer.join()
        started = eventually(lambda: (r := vibe.run("start", "stumbling", "--json")).returncode == 0 and json.loads(r.stdout),
                             timeout=60, what=f"the start after a kill at {delay} s")
        answers = {"1.0.0": "hello\n", "2.0.0": "two\n"}
        eventually(lambda: get(started["url"]) == answers[vibe.project("stumbling")["version"]], what="the version's answer")
        assert written.exists() == (vibe.project("stumbling")["version"] == "2.0.0"), "a version runs on the other one's data"
        vibe.open(app, name="stumbling")

    # What it leaves when it dies as soon as the data is there.
    mark = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/runtime/version")
    mark.write_text(snapshot["id"])
    vibe.kill("vibe-supervisor")
    eventually(lambda: vibe.run("stop", "stumbling").returncode == 0, what="the stop")
    eventually(lambda: vibe.project("stumbling")["version"] == "1.0.0", what="the version of the data")
    assert not mark.exists() and get(vibe.json("start", "stumbling")["url"]) == "hello\n"
    vibe("rm", "stumbling", "--yes")


def test_a_restore_whose_app_does_not_become_healthy_can_be_undone(vibe, tmp_path):
    app = write_app(tmp_path / "sick", [
        {"name": "web", "image": "vibe-examples/python:3.11",
         "command": ["python3", "-c", "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"],
         "stateVolumes": ["data:/data"],
         "healthcheck": {"test": ["CMD-SHELL", "! test -e /data/broken"], "interval": "200ms", "timeout": "1s", "retries": 3}}],
        images=("python",), state={"volumes": [{"name": "data", "consistency": "generic"}]})
    vibe.open(app, name="sick")
    vibe("exec", "sick", "--", "/bin/sh", "-c", "touch /data/broken")
    broken = vibe.json("save", "sick")
    vibe("exec", "sick", "--", "/bin/sh", "-c", "rm /data/broken && echo kept > /data/mark")
    with pytest.raises(Failed) as failed:
        vibe.json("restore", "sick", broken["id"])
    error = json.loads(failed.value.out)["error"]
    assert error["reason"] == "START_FAILED" and error["service"] == "web"
    assert "is restored" in error["message"] and "healthcheck" in error["message"]
    (safety,) = [s for s in vibe.json("snapshots", "sick")["snapshots"] if s["reason"] == "before-restore"]
    command = f"vibe restore sick {safety['id']} --no-safety"
    assert command in error["advice"]
    assert f"{command}`, then `vibe start sick`" in error["advice"]
    vibe(*command.split()[1:])
    assert vibe.service("sick", "web")["status"] != "running", "the advice has a step too many"
    vibe("start", "sick")
    assert vibe("exec", "sick", "--", "/bin/sh", "-c", "cat /data/mark; ls /data").split() == ["kept", "mark"]
    vibe("rm", "sick", "--yes")


def test_autosave_comes_when_something_changed_and_only_then(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                             stateVolumes=["files:/files"])],
                    state={"autosave": True, "autosaveDebounceSeconds": 1, "retention": {"maxSnapshots": 3},
                           "volumes": [{"name": "files"}]})
    opened = vibe.open(app, name="auto")
    volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")

    def autosaves():
        kept = [s["id"] for s in vibe.json("snapshots", "auto")["snapshots"] if s["reason"] == "autosave"]
        assert len(kept) <= 3, "more autosaves are seen than the manifest allows"
        return kept

    def after(seen, patience=60):
        deadline = time.monotonic() + patience
        while (now := autosaves()) == seen:
            assert time.monotonic() < deadline, "no autosave after a change"
        return now

    seen = after([])
    for number in range(4):
        (volume / "file").write_text(str(number))
        os.sync()  # the file system counts changes when it commits
        seen = after(seen)
    assert len(seen) == 3, "the oldest autosaves went too early"
    time.sleep(10)
    assert autosaves() == seen, "saved again though nothing changed"
    vibe("rm", "auto", "--yes")


def test_a_restore_says_which_volumes_are_not_used(vibe, tmp_path):
    def app(version, volume):
        return write_app(tmp_path / version, [probe(stateVolumes=[f"{volume}:/files"])], version=version,
                         state={"volumes": [{"name": volume}]})
    vibe.open(app("1.0.0", "data"), name="renamed")
    vibe("exec", "renamed", "/probe", "write", "/files/file", "of 1.0.0")
    saved = vibe.json("save", "renamed")["id"]
    assert vibe.json("restore", "renamed", saved)["warnings"] == []
    vibe.open(app("2.0.0", "store"), name="renamed")
    result = vibe.run("restore", "renamed", saved)
    assert result.returncode == 0, result.stderr
    assert "warning: version 2.0.0 of the app does not use the snapshot's volume data" in result.stderr
    assert "warning: the snapshot does not have the volume store: it is empty now" in result.stderr
    vibe("rm", "renamed", "--yes")


def test_the_oldest_snapshot_is_not_pruned_by_its_own_restore(vibe, tmp_path):
    app = write_app(tmp_path / "full", [probe(stateVolumes=["files:/files"])],
                    state={"retention": {"maxSnapshots": 2}, "volumes": [{"name": "files"}]})
    vibe.open(app)
    oldest = vibe.json("save", "full")["id"]
    vibe("save", "full")
    restored = vibe.json("restore", "full", oldest)
    kept = [snapshot["id"] for snapshot in vibe.json("snapshots", "full")["snapshots"]]
    assert kept == [restored["safetySnapshot"], oldest]
    vibe("rm", "full", "--yes")


def test_a_copy_runs_beside_the_original(vibe, notes):
    before = notes_of(notes["url"])
    copy = vibe.json("duplicate", "notes", "trial")
    assert copy["id"] != notes["id"] and copy["status"] == "stopped"
    assert set(copy["decisions"].values()) == {None}, "what was allowed to the first was copied"
    opened = vibe.open(EXAMPLES / "notes", name="trial")
    assert opened["id"] == copy["id"] and opened["url"] != notes["url"]
    ports = [set(p["hostPort"] for p in vibe.json("ports", name)["ports"]) for name in ("notes", "trial")]
    assert all(ports) and not ports[0] & ports[1], f"they share a port: {ports}"
    where = ["--", "python3", "-c", "import socket; print(socket.gethostbyname(socket.gethostname()))"]
    assert vibe("exec", "notes", *where) != vibe("exec", "trial", *where), "they share an address"
    assert notes_of(opened["url"]) == before
    post(f"{opened['url']}/api/notes", {"title": "only in the copy", "body": ""})
    assert notes_of(notes["url"]) == before
    assert vibe.json("snapshots", "trial")["snapshots"] == []
    vibe("rm", "trial", "--yes")


def strays(vibe):
    return [check for check in json.loads(vibe.run("doctor", "--json").stdout)["checks"] if check["name"] == "stray projects"]


def test_a_copy_that_is_interrupted_is_there_or_is_not(vibe, notes):
    """Ctrl-C, and a vibed that is killed: a whole copy that is listed, or nothing and a free name."""
    data = vibe.inside("/run/vibe/data/projects")
    before = notes_of(notes["url"])
    others = {entry.name for entry in data.iterdir()}

    def copies():
        return {entry.name for entry in data.iterdir()} - others

    def settled():
        projects = [project for project in vibe.json("ps")["projects"] if project["name"] == "torn"]
        return not any(project["message"] for project in projects) and {p["id"] for p in projects} == copies()

    outcomes = set()
    for kill in (False, True):
        for delay in (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.3, 1.0):
            pid = vibe.vibed()
            command = subprocess.Popen([vibe.programs / "vibe", "duplicate", "notes", "torn"], env=vibe.environment,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            if kill:
                os.kill(pid, signal.SIGKILL)
            else:
                command.send_signal(signal.SIGINT)
            command.wait(timeout=60)
            eventually(settled, what=f"the end of a copy interrupted after {delay} s")
            assert not strays(vibe), f"after {delay} s"
            outcomes.add(bool(copies()))
            if copies():
                vibe("rm", "torn", "--yes")
    command = subprocess.Popen([vibe.programs / "vibe", "duplicate", "notes", "torn"], env=vibe.environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.02)
    vibe.kill_vibed()
    command.wait(timeout=60)
    again = vibe.run("duplicate", "notes", "torn")  # at once
    assert again.returncode == 0 or "there is a project torn already" in again.stderr, again.stderr
    assert notes_of(vibe.open(EXAMPLES / "notes", name="torn")["url"]) == before == notes_of(notes["url"])
    vibe("rm", "torn", "--yes")
    assert not copies() and outcomes == {False, True}, "nothing was interrupted, or nothing got through"


def test_what_only_the_machine_has_is_removed_when_it_is_asked_for(vibe, notes, tmp_path):
    lost = vibe.json("duplicate", "notes", "lost")["id"]
    data = vibe.inside(f"/run/vibe/data/projects/{lost}")
    vibe.kill_vibed()
    (vibe.home / "projects" / lost / "project.json").unlink()
    (vibe.home / "projects" / lost).rmdir()
    listed = vibe.json("ps")["projects"]
    (check,) = strays(vibe)
    assert "lost" in check["message"] and "`vibe rm lost`" in check["advice"]
    for command in (["duplicate", "notes", "lost"], ["open", EXAMPLES / "notes", "--yes", "--name", "lost"]):
        error = vibe.fails(*command)
        assert "called lost" in error or "project lost already" in error
        assert "`vibe rm lost`" in error
    assert [p["id"] for p in vibe.json("ps")["projects"]] == [p["id"] for p in listed], "a refusal left a record"
    assert "lost and all its data: this is not a terminal" in vibe.fails("rm", "lost")
    assert (data / "current").exists()
    vibe("rm", "lost", "--yes")
    assert not data.exists() and not strays(vibe)
    assert "no project called lost" in vibe.fails("rm", "lost", "--yes")
    assert vibe.service("notes", "web")["status"] == "running"


def test_a_copy_of_a_snapshot_has_its_data(vibe, notes):
    old = notes_of(notes["url"])
    saved = vibe.json("save", "notes")
    post(f"{notes['url']}/api/notes", {"title": "after the snapshot", "body": ""})
    vibe("duplicate", "notes", "old", "--from", saved["id"])
    assert notes_of(vibe.open(EXAMPLES / "notes", name="old")["url"]) == old
    vibe("rm", "old", "--yes")


def test_snapshots_can_be_removed(vibe, notes):
    saved = vibe.json("save", "notes")
    assert vibe.json("snapshot", "rm", "notes", saved["id"][:8].upper()) == {"removed": saved["id"]}
    assert saved["id"] not in {s["id"] for s in vibe.json("snapshots", "notes")["snapshots"]}
    assert saved["id"] in vibe.fails("restore", "notes", saved["id"])


def test_ids_that_are_none_are_refused_by_name(vibe, notes, bookmarks):
    before = notes_of(notes["url"])
    other = vibe.json("save", "bookmarks")["id"]
    listed = [s["id"] for s in vibe.json("snapshots", "notes")["snapshots"]]
    assert "four" in vibe("restore", "--help") and "too short" in vibe.fails("restore", "notes", listed[0][:3])
    for bad in (other, "00000000-0000-4000-8000-000000000000", "nonsense", "../../etc", other.upper()):
        error = vibe.fails("restore", "notes", bad)
        assert bad in error and "see `vibe snapshots notes`" in error, error
        assert bad in vibe.fails("snapshot", "rm", "notes", bad)
        assert bad in vibe.fails("duplicate", "notes", "never", "--from", bad)
    assert vibe.project("never") is None
    assert [s["id"] for s in vibe.json("snapshots", "notes")["snapshots"]] == listed
    assert notes_of(notes["url"]) == before
    assert vibe.service("notes", "web")["status"] == "running"


def test_a_name_that_is_taken_is_refused(vibe, notes, bookmarks):
    assert "bookmarks" in vibe.fails("duplicate", "notes", "bookmarks")
    assert "Bad Name" in vibe.fails("duplicate", "notes", "Bad Name")


def test_files_of_any_kind_are_saved(vibe, tmp_path):
    """A generic volume, whose services stand still for the moment."""
    app = write_app(tmp_path / "app",
                    [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                           stateVolumes=["files:/files"])],
                    state={"volumes": [{"name": "files"}]})
    opened = vibe.open(app, name="generic")
    volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")
    (volume / "kept").write_text("kept")
    os.symlink("kept", volume / "link")
    os.mkfifo(volume / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(volume)  # the path is too long for a socket's address
        server.bind("server.sock")
        os.chdir(here)
    saved = vibe.json("save", "generic")
    assert 0 < saved["pauseMicros"] < 2_000_000
    assert get(opened["url"]) == "hello\n", "the app stands still after a save"
    assert (volume / "server.sock").is_socket(), "a save is no reason to take an app's socket away"
    (volume / "kept").unlink()
    vibe("restore", "generic", saved["id"])
    volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")
    assert (volume / "kept").read_text() == "kept" and os.readlink(volume / "link") == "kept"
    assert sorted(os.listdir(volume)) == ["kept", "link"], "sockets and fifos that nobody has open any more came back"
    complete(vibe, "generic", saved["id"])
    vibe("duplicate", "generic", "generic-copy", "--from", saved["id"])
    copy = vibe.inside(f"/run/vibe/data/projects/{vibe.project('generic-copy')['id']}/current/volumes/files")
    assert sorted(os.listdir(copy)) == ["kept", "link"]
    for name in ("generic", "generic-copy"):
        vibe("rm", name, "--yes")


LOCK_STEP = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
left = sys.argv[1] == "left"
file = os.open("/data/number", os.O_RDWR | os.O_CREAT, 0o644)
number = int(os.pread(file, 20, 0) or 0)
if left:
    peer = socket.create_connection(("right", 7000))
else:
    server = socket.create_server(("", 7000))
    said = b""
    while not said:  # somebody looks whether the port is open
        peer = server.accept()[0]
        said = peer.recv(20)
while True:
    if left:
        number += 1
    else:
        number = int(said or peer.recv(20))
        said = b""
    os.pwrite(file, b"%20d" % number, 0)
    os.pwrite(file, b"x" * 65536, 4096 * (1 + number % 64))
    peer.sendall(b"%20d" % number)
    if left and int(peer.recv(20)) != number:
        sys.exit("out of step")
"""


def test_a_generic_snapshot_is_of_one_instant_of_all_services(vibe, tmp_path):
    """Two services write to a volume each, in turn and without a sync: in a snapshot they are never out of step."""
    def writer(name, **more):
        return {"name": name, "image": "vibe-examples/python:3.11", "command": ["python3", "-c", LOCK_STEP, name],
                "stateVolumes": [f"{name}:/data"], **more}
    app = write_app(tmp_path / "step", [writer("right", ports=[{"container": 7000, "hostExposure": "none"}]),
                                        writer("left", dependsOn=["right"])],
                    images=("python",), state={"volumes": [{"name": "left"}, {"name": "right"}]})
    opened = vibe.open(app, name="step")
    project = vibe.inside(f"/run/vibe/data/projects/{opened['id']}")

    def numbers(state):
        return [int((project / state / "volumes" / name / "number").read_text()[:20]) for name in ("left", "right")]

    eventually(lambda: (project / "current/volumes/right/number").exists() and numbers("current")[1] > 100,
               what="the writing")
    frozen = FrozenTimes(vibe, "left", "right")
    with frozen:
        saved = [vibe.json("save", "step") for _ in range(8)]
        for _ in range(200):  # a few milliseconds are easily missed
            if frozen.count == 0:
                vibe("snapshot", "rm", "step", vibe.json("save", "step")["id"])
    seen = []
    for snapshot in saved:
        left, right = numbers(f"snapshots/{snapshot['id']}/state")
        assert right <= left <= right + 1, f"{left} and {right}: the snapshot is of two instants"
        assert 0 < snapshot["pauseMicros"] < 1_000_000
        seen.append(left)
    assert seen == sorted(set(seen)), "the services do not run on after a save"
    assert frozen.count > 0, "the services did not stand still"
    vibe("restore", "step", saved[0]["id"], "--no-safety")
    eventually(lambda: numbers("current")[1] > seen[0] + 100, what="writing after the restore")
    vibe("rm", "step", "--yes")


class FrozenTimes:
    """How often all of these services' processes stood still, as the kernel says it of their cgroups."""

    def __init__(self, vibe, *words):
        self.count, self.end, self.thread = 0, threading.Event(), threading.Thread(target=self.watch)
        self.files = []
        for pid, words_of in vibe.machine_processes().items():
            if words_of.split()[-1] in words and "python3" in words_of:
                for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                    _, controllers, path = line.split(":", 2)
                    group = Path(path).parent.relative_to("/")
                    for state in (Path("/sys/fs/cgroup") / controllers / group / "freezer.state",
                                  Path("/sys/fs/cgroup") / group / "cgroup.events",
                                  Path("/sys/fs/cgroup/unified") / group / "cgroup.events"):
                        if state.exists() and (state.name == "freezer.state" or "frozen" in state.read_text()):
                            self.files.append(state)
        assert self.files, "the services are in no cgroup that can be frozen"

    def watch(self):
        before = False
        while not self.end.is_set():
            now = any(word in file.read_text() for file in self.files for word in ("FROZEN", "frozen 1"))
            self.count += now and not before
            before = now

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


def test_a_snapshot_goes_at_once_while_its_dump_is_made(vibe, bookmarks):
    sql = ["exec", "bookmarks", "-s", "db", "--", "psql", "-q", "-U", "bookmarks", "-d", "bookmarks", "-c"]
    vibe(*sql, "CREATE TABLE big AS SELECT md5(n::text) || md5((-n)::text) AS text FROM generate_series(1, 2000000) n")
    for snapshot in vibe.json("snapshots", "bookmarks")["snapshots"]:
        complete(vibe, "bookmarks", snapshot["id"])
    saved = vibe.json("save", "bookmarks")["id"]
    eventually(lambda: vibe.machine_processes("pg_dump"), timeout=60, what="the dump")
    begun = time.monotonic()
    vibe("snapshot", "rm", "bookmarks", saved)
    assert time.monotonic() - begun < 15, "the dump was waited for"
    assert not vibe.machine_processes("pg_dump"), "the dump goes on"
    state = vibe.inside(f"/run/vibe/data/projects/{bookmarks['id']}")
    staged = [entry.name for entry in (state / "staging").iterdir()]
    assert not [name for name in staged if name.startswith(("clone-", "dump-"))], "the dump left something"
    eventually(lambda: not list((state / "staging").iterdir()), timeout=60, what="the end of what was removed")
    assert not (state / "snapshots" / saved).exists()
    assert saved not in {s["id"] for s in vibe.json("snapshots", "bookmarks")["snapshots"]}
    assert not [words for words in vibe.machine_processes().values() if "-D /vibe/data" in words], "its Postgres runs on"
    vibe(*sql, "DROP TABLE big")
    after = vibe.json("save", "bookmarks")["id"]
    (volume,) = complete(vibe, "bookmarks", after)["volumes"]
    assert volume["dumpFormat"] == "pg_dump_custom", "no dump is made any more"


def test_a_disk_that_gets_full_is_told_before_anything_is_refused(tmp_path):
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["truncate", "-s", "8G", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        vibe = Vibe(mount / "home")
        try:
            app = write_app(tmp_path / "app", [probe(stateVolumes=["files:/files"])],
                            state={"volumes": [{"name": "files"}]})
            assert vibe.open(app, name="app")["diskWarning"] == "" and vibe.json("ps")["diskWarning"] == ""
            left = os.statvfs(mount).f_bavail * os.statvfs(mount).f_frsize
            subprocess.run(["fallocate", "-l", str(left - (2 << 30)), mount / "filler"], check=True)
            eventually(lambda: vibe.json("machine", "status")["diskWarning"], what="the warning")
            for command in (["ps"], ["machine", "status"], ["save", "app"], ["open", app, "--yes", "--name", "app"]):
                result = vibe.run(*command)
                assert result.returncode == 0, f"{command} is refused: {result.stderr}"
                assert "warning: this computer's disk is nearly full: " in result.stderr, command
                assert "Free space on this computer" in result.stderr
                assert vibe.json(*command)["diskWarning"].startswith("this computer's disk is nearly full: ")
            (mount / "filler").unlink()
            eventually(lambda: not vibe.json("ps")["diskWarning"], what="the end of the warning")
        finally:
            vibe.close()
    finally:
        subprocess.run(["umount", mount], check=True)


def test_the_supervisor_may_die_at_any_time(vibe, notes):
    """Saves and restores whose supervisor is killed: the data is always one of the two that there were."""
    known = notes_of(notes["url"])
    saved = vibe.json("save", "notes")
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
        for command in (["save", "notes"], ["restore", "notes", saved["id"], "--no-safety"]):
            (pid,) = vibe.machine_processes("vibe-supervisor")
            killer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
            killer.start()
            vibe.run(*command)
            killer.join()
            deadline = time.monotonic() + 30
            while True:  # it comes back, and the app with it
                try:
                    vibe("start", "notes")
                    if notes_of(notes["url"]) == known:
                        break
                except (Failed, OSError):
                    pass
                assert time.monotonic() < deadline, f"after {command} killed at {delay} s"
                time.sleep(0.2)
            for snapshot in vibe.json("snapshots", "notes")["snapshots"]:
                assert not snapshot["problem"], snapshot
    state = vibe.inside(f"/run/vibe/data/projects/{notes['id']}")
    assert not any((state / "staging").iterdir()) if (state / "staging").exists() else True
    vibe("save", "notes")


def test_no_acknowledged_commit_is_missing_after_a_restore(vibe, notes):
    """Somebody writes notes all the time; each save must hold what had been answered before it began."""
    answered, stop = [], threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            try:
                post(f"{notes['url']}/api/notes", {"title": f"note {number}", "body": ""})
                answered.append(f"note {number}")
            except OSError:
                time.sleep(0.05)  # the app is being restored

    writer = threading.Thread(target=write)
    writer.start()
    try:
        saves = []
        for _ in range(5):
            time.sleep(0.3)
            before = set(answered)
            saves.append((vibe.json("save", "notes")["id"], before))
    finally:
        stop.set()
        writer.join()
    for snapshot, before in saves:
        vibe("restore", "notes", snapshot, "--no-safety")
        missing = before - notes_of(notes["url"])
        assert not missing, f"{len(missing)} acknowledged notes are not in the snapshot"
        assert [v["integrityCheck"] for v in complete(vibe, "notes", snapshot)["volumes"]] == ["ok"]


def test_a_save_of_a_stopped_project(vibe, notes):
    vibe("stop", "notes")
    saved = vibe.json("save", "notes")
    restored = vibe.json("restore", "notes", saved["id"])
    assert restored["project"]["status"] == "stopped", "a restore started what did not run"
    vibe("start", "notes")
