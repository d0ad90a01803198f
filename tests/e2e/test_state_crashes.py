"""The supervisor is killed while it saves, restores, copies, prunes and removes: at each fault point of src/state, and at any
time. When it is back, `current` and every snapshot is whole, and nothing is left of what was under way.

VIBE_TEST_TRIALS says how often (24), VIBE_TEST_SEED repeats a run."""

import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from state_on_disk import check_data
from vibe_cli import BIN, Vibe, eventually, get, probe, write_app

TRIALS = int(os.environ.get("VIBE_TEST_TRIALS", 24))
SEED = int(os.environ.get("VIBE_TEST_SEED", random.randrange(1 << 32)))
FAULTY = BIN.parent / "tests" / "faults" / "vibe-supervisor"
KEPT = 4  # snapshots; each save then prunes one
NAME = "crash"
# Whatever dies often is started again ever later; a machine that is new starts it at once.
DEATHS_OF_A_MACHINE = 5

SAVE = ["save.intent", "save.folder", "save.flushed", "save.quiesced", "save.snapshot", "save.staged", "save.moved",
        "save.listed", "save.done"]
DELETE = ["delete.intent", "delete.unlisted", "delete.moved", "settle.settled"]
COMPLETE = ["clone.made", "complete.computed", "complete.done"]
CLONE = ["clone.staged", "clone.prepared"]
RESTORE = ["restore.intent", *CLONE, "restore.exchanged", "restore.swapped", "settle.settled", "restore.done"]
DUPLICATE = ["duplicate.folder", "duplicate.intent", *CLONE, "duplicate.staged", "duplicate.moved", "settle.settled",
             "duplicate.done"]
POINTS = {
    "save": SAVE + COMPLETE + ["save.snapshot\nrecover.settled", "save.moved\nsettle.settled", "clone.made\nrecover.removed",
                               "save.intent\nrecover.index"],
    "save and prune": DELETE + ["delete.moved\nrecover.settled"],
    "restore": RESTORE + ["save.staged", "save.moved", "delete.moved", "restore.exchanged\nsettle.settled"],
    "restore without safety": RESTORE + ["restore.exchanged\nrecover.settled"],
    "duplicate": DUPLICATE,
    "duplicate a snapshot": DUPLICATE,
    "remove a snapshot": DELETE + ["delete.unlisted\nsettle.settled"],
    "remove a copy": [],
}


def fill_with_faults(folder):
    """The programs, with the supervisor that has fault points."""
    for program in BIN.glob("vibe*"):
        source = FAULTY if program.name == "vibe-supervisor" else program
        try:
            os.link(source, folder / program.name)
        except OSError:
            shutil.copy(source, folder / program.name)


def write(state, number):
    """A content that says in each file which one it is."""
    files, database = state / "volumes" / "files", state / "volumes" / "rows" / "rows.db"
    (files / "deep").mkdir(exist_ok=True)
    for file, times in ((files / "one", 1), (files / "deep" / "many", 20_000)):
        file.write_text(f"{number}\n" * times)
    with closing(sqlite3.connect(":memory:")) as rows:
        rows.execute("CREATE TABLE numbers (n)")
        rows.executemany("INSERT INTO numbers VALUES (?)", [(number,)] * 100)
        rows.commit()
        database.write_bytes(rows.serialize())


def content(state):
    """The number of a content that is whole."""
    files, database = state / "volumes" / "files", state / "volumes" / "rows" / "rows.db"
    one, many = (file.read_text().split() for file in (files / "one", files / "deep" / "many"))
    with closing(sqlite3.connect(":memory:")) as rows:  # SQLite itself does not find its way through /proc
        rows.deserialize(database.read_bytes())
        numbers = {str(number) for number, in rows.execute("SELECT n FROM numbers")}
        assert rows.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {*one, *many, *numbers} == {one[0]} and len(many) == 20_000, f"{one[0]}, {len(many)} of {set(many)}, {numbers}"
    return int(one[0])


class Crashes:
    def __init__(self, vibe, project, chance):
        self.vibe, self.project, self.chance = vibe, project, chance
        self.number, self.copies, self.deaths, self.took = 0, 0, 0, {}
        self.live = {0}  # what `current` may be
        self.acknowledged = {}  # snapshots that must be there, to their content
        self.gone = set()  # that must not
        self.change()

    def data(self):
        return self.vibe.inside("/run/vibe/data")

    def state(self, project=None):
        return self.data() / "projects" / (project or self.project["id"]) / "current"

    def change(self):
        self.number += 1
        write(self.state(), self.number)
        os.sync()
        self.live = {self.number}

    def listed(self):
        return {snapshot["id"]: snapshot for snapshot in self.vibe.json("snapshots", NAME)["snapshots"]}

    def save(self):
        number = self.number_now()  # that of a restore, maybe
        saved = self.vibe.json("save", NAME, "--label", f"content={number}")
        self.acknowledged[saved["id"]] = number

    def words_for(self, what):
        """The command, and what is so when it succeeds."""
        if what.startswith("save") or not self.acknowledged:
            self.change()
        while len(self.acknowledged) < (1 if what == "save" else KEPT):
            self.save()
            self.forget_pruned()
        chosen = self.chance.choice(sorted(self.acknowledged))
        number, copy = self.acknowledged[chosen], f"copy-{self.copies}"
        if what.startswith("save"):
            return ["save", NAME, "--label", f"content={self.number}", "--json"], self.saved
        if what.startswith("restore"):
            self.live.add(number)
            return ["restore", NAME, chosen, *(["--no-safety"] if "without" in what else [])], lambda _: self.restored(number)
        if what.startswith("duplicate"):
            self.copies += 1
            self.copy = (copy, number if "snapshot" in what else self.number_now())
            return ["duplicate", NAME, copy, *(["--from", chosen] if "snapshot" in what else [])], self.copied
        if what == "remove a copy":
            self.copies += 1
            self.vibe("duplicate", NAME, copy)
            return ["rm", copy, "--yes"], lambda _: self.removed(copy)
        del self.acknowledged[chosen]
        return ["snapshot", "rm", NAME, chosen], lambda _: self.gone.add(chosen)

    def saved(self, out):
        self.acknowledged[json.loads(out)["id"]] = self.number

    def restored(self, number):
        self.live = {number}

    def copied(self, _):
        copy, number = self.copy
        found = self.vibe.project(copy)
        assert found, "an acknowledged copy is lost"
        assert content(self.state(found["id"])) == number

    def removed(self, copy):
        assert self.vibe.project(copy) is None, "a copy that was removed is back"

    def number_now(self):
        (number,) = self.live
        return number

    def forget_pruned(self):
        """Snapshots may have given way to newer ones: the oldest go first, and no more than that."""
        listed = self.listed()
        lost = set(self.acknowledged) - set(listed)
        assert not lost or len(listed) >= KEPT, f"acknowledged snapshots are lost: {lost}"
        for snapshot in lost:
            del self.acknowledged[snapshot]

    def trial(self, what, fault=None):
        words, succeeded = self.words_for(what)
        armed = self.vibe.inside("/run/vibe/fault")
        (supervisor,) = self.vibe.machine_processes("vibe-supervisor")
        started = time.monotonic()
        if fault:
            armed.write_text(fault + "\n")
        else:
            killer = threading.Timer(self.chance.uniform(0, 1.3 * self.took.get(what, 0.2)), os.kill,
                                     (supervisor, signal.SIGKILL))
            killer.start()
        result = self.vibe.run(*words)
        if fault:
            eventually(lambda: not armed.read_text(), what=f"the death at {fault!r}")
            armed.unlink()
            self.deaths += fault.count("\n") + 1
        else:
            killer.join()
            self.deaths += 1
            if result.returncode == 0:
                self.took[what] = time.monotonic() - started
        self.wait_until_settled()
        if result.returncode == 0:
            succeeded(result.stdout)
        self.check()
        if self.deaths >= DEATHS_OF_A_MACHINE:
            self.deaths = 0
            self.vibe("machine", "stop", "--off")
            self.vibe("machine", "start")

    def unsettled(self):
        """What is still under way."""
        records = [json.loads((folder / "project.json").read_text()) for folder in (self.vibe.home / "projects").iterdir()
                   if (folder / "project.json").exists()]
        left = [f"{record['name']} is pending: {record['pending']}" for record in records if record["pending"]]
        if self.vibe.run("snapshots", NAME).returncode != 0:
            return left + ["the supervisor does not answer"]
        left += [f"{snapshot['id']} is not complete" for snapshot in self.listed().values() if not snapshot["complete"]]
        return left if get(self.project["url"]) == "hello\n" else left + ["the app does not answer"]

    def wait_until_settled(self):
        try:
            eventually(lambda: not self.unsettled(), timeout=40, what="order after the death")
        except AssertionError:
            supervisor = (self.vibe.home / "machine" / "native" / "logs" / "supervisor.log").read_text()[-4000:]
            raise AssertionError(f"not in order: {self.unsettled()}, {self.vibe('ps')}\n{supervisor}") from None

    def check(self):
        listed = self.listed()
        assert not [snapshot for snapshot in listed.values() if snapshot["problem"]], listed
        library = {project["id"]: project["name"] for project in self.vibe.json("ps")["projects"]}
        on_disk = check_data(self.data(), library)
        assert set(on_disk[self.project["id"]]) == set(listed)
        self.forget_pruned()
        assert not self.gone & set(listed), "a snapshot that was removed is back"
        for snapshot, metadata in on_disk[self.project["id"]].items():
            found = content(self.state().parent / "snapshots" / snapshot / "state")
            assert found == int(metadata["labels"].get("content", found))
            assert found == self.acknowledged.setdefault(snapshot, found)
            assert metadata["volumeManifests"]["rows"]["integrityCheck"] == "ok"
        found = content(self.state())
        assert found in self.live, f"the live state is {found}, and could be {self.live}"
        self.live = {found}
        for project, name in library.items():
            if name != NAME:
                content(self.state(project))
                self.vibe("rm", name, "--yes")


@pytest.fixture
def crashes(tmp_path):
    home = Path(tempfile.mkdtemp(prefix="vibe-e2e-"))
    programs = Path(tempfile.mkdtemp(prefix="faults-", dir=BIN.parent))  # where programs can have a second name
    vibe = Vibe(home / "home", programs=programs)
    app = write_app(tmp_path / NAME, [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                            stateVolumes=["files:/files", "rows:/rows"])],
                    state={"retention": {"maxSnapshots": KEPT},
                           "volumes": [{"name": "files"}, {"name": "rows", "consistency": "sqlite"}]})
    try:
        fill_with_faults(programs)
        yield Crashes(vibe, vibe.open(app, name=NAME), random.Random(SEED))
    finally:
        vibe.close()
        shutil.rmtree(home)
        shutil.rmtree(programs)


def test_everything_is_whole_after_every_death(crashes):
    print(f"VIBE_TEST_SEED={SEED}")
    points = [(what, fault) for what, faults in POINTS.items() for fault in faults]
    crashes.chance.shuffle(points)
    for number in range(TRIALS):
        at_point = number % 2 == 0
        what, fault = points[number // 2 % len(points)] if at_point else (crashes.chance.choice(list(POINTS)), None)
        try:
            crashes.trial(what, fault)
        except BaseException:
            print(f"in trial {number}: {what}, killed at {fault or 'some time'!r}")
            raise
