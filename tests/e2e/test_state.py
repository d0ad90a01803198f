"""What a user saved comes back, and nothing of it is lost on the way."""

import json
import os
import signal
import subprocess
import tarfile
import threading
import time
import urllib.request

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
    assert "holds a cluster of PostgreSQL 15, and this is PostgreSQL 17" in vibe.fails(
        "open", app(17), "--yes", "--name", "books"), "a newer PostgreSQL ran on the old files"
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
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                             stateVolumes=["files:/files"])],
                    state={"volumes": [{"name": "files"}]})
    opened = vibe.open(app, name="upgraded")
    volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")
    (volume / "format").write_text("of version 1")
    assert vibe.json("snapshots", "upgraded")["snapshots"] == []
    vibe.open(app, name="upgraded")
    assert vibe.json("snapshots", "upgraded")["snapshots"] == [], "the same version is no upgrade"
    manifest = app / "vibe.yaml"
    text = manifest.read_text()
    assert opened["version"] in text
    manifest.write_text(text.replace(opened["version"], "9.0.0"))
    assert vibe.open(app, name="upgraded")["version"] == "9.0.0"
    (snapshot,) = vibe.json("snapshots", "upgraded")["snapshots"]
    assert snapshot["reason"] == "before-upgrade" and snapshot["appVersion"] == opened["version"]
    (volume / "format").write_text("of version 9")
    vibe("restore", "upgraded", snapshot["id"])
    assert (vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files") / "format"
            ).read_text() == "of version 1"
    vibe("rm", "upgraded", "--yes")


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
    vibe(*command.split()[1:])
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
    assert notes_of(opened["url"]) == before
    post(f"{opened['url']}/api/notes", {"title": "only in the copy", "body": ""})
    assert notes_of(notes["url"]) == before
    assert vibe.json("snapshots", "trial")["snapshots"] == []
    vibe("rm", "trial", "--yes")


def test_a_copy_of_a_snapshot_has_its_data(vibe, notes):
    old = notes_of(notes["url"])
    saved = vibe.json("save", "notes")
    post(f"{notes['url']}/api/notes", {"title": "after the snapshot", "body": ""})
    vibe("duplicate", "notes", "old", "--from", saved["id"])
    assert notes_of(vibe.open(EXAMPLES / "notes", name="old")["url"]) == old
    vibe("rm", "old", "--yes")


def test_snapshots_can_be_removed(vibe, notes):
    saved = vibe.json("save", "notes")
    vibe("snapshot", "rm", "notes", saved["id"])
    assert saved["id"] not in {s["id"] for s in vibe.json("snapshots", "notes")["snapshots"]}
    assert saved["id"] in vibe.fails("restore", "notes", saved["id"])


def test_ids_that_are_none_are_refused_by_name(vibe, notes, bookmarks):
    before = notes_of(notes["url"])
    other = vibe.json("save", "bookmarks")["id"]
    listed = [s["id"] for s in vibe.json("snapshots", "notes")["snapshots"]]
    for bad in (other, "00000000-0000-4000-8000-000000000000", "nonsense", "../../etc", other.upper()):
        error = vibe.fails("restore", "notes", bad)
        assert bad in error, error
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
    saved = vibe.json("save", "generic")
    assert 0 < saved["pauseMicros"] < 2_000_000
    assert get(opened["url"]) == "hello\n", "the app stands still after a save"
    (volume / "kept").unlink()
    vibe("restore", "generic", saved["id"])
    volume = vibe.inside(f"/run/vibe/data/projects/{opened['id']}/current/volumes/files")
    assert (volume / "kept").read_text() == "kept" and os.readlink(volume / "link") == "kept"
    vibe("rm", "generic", "--yes")


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
