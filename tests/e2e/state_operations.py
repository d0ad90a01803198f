"""What is done with a project's state while the supervisor is killed or the power is cut, the points of src/state at which
that happens, and what must be so afterwards."""

import json
import sqlite3
from contextlib import closing

from vibe_cli import BIN

# The supervisor that has the points (tests/integration/state/CMakeLists.txt).
FAULTY = BIN.parent / "tests" / "faults" / "vibe-supervisor"

SAVE = ["save.intent", "save.folder", "save.flushed", "save.quiesced", "save.snapshot", "save.staged", "save.moved",
        "save.listed", "save.done"]
DELETE = ["delete.intent", "delete.unlisted", "delete.moved", "settle.settled"]
COMPLETE = ["clone.made", "complete.computed", "complete.done"]
CLONE = ["clone.staged", "clone.prepared"]
RESTORE = ["restore.intent", *CLONE, "restore.exchanged", "restore.swapped", "settle.settled", "restore.done"]
DUPLICATE = ["duplicate.folder", "duplicate.intent", *CLONE, "duplicate.staged", "duplicate.moved", "settle.settled",
             "duplicate.done"]
# A second line is a point that is passed when the first crash is put in order.
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


def files_with(number):
    """Files of the volumes that say which content they are of."""
    with closing(sqlite3.connect(":memory:")) as rows:
        rows.execute("CREATE TABLE numbers (n)")
        rows.executemany("INSERT INTO numbers VALUES (?)", [(number,)] * 100)
        rows.commit()
        return {"files/one": f"{number}\n".encode(), "files/deep/many": f"{number}\n".encode() * 20_000,
                "rows/rows.db": rows.serialize()}


def number_in(state):
    """The number of a state that is whole."""
    files, database = state / "volumes" / "files", state / "volumes" / "rows" / "rows.db"
    one, many = (next(files.rglob(name)).read_text().split() for name in ("one", "many"))
    with closing(sqlite3.connect(":memory:")) as rows:  # SQLite itself does not find its way through /proc
        rows.deserialize(database.read_bytes())
        numbers = {str(number) for number, in rows.execute("SELECT n FROM numbers")}
        assert rows.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {*one, *many, *numbers} == {one[0]} and len(many) == 20_000, f"{one[0]}, {len(many)} of {set(many)}, {numbers}"
    return int(one[0])


class Operations:
    """A project whose content is a number, and what was acknowledged of it. Who derives from this says how a number is
    written."""

    def __init__(self, vibe, name, kept, chance):
        self.vibe, self.name, self.kept, self.chance = vibe, name, kept, chance
        self.number = 0
        self.live = {0}  # what `current` may be
        self.acknowledged = {}  # snapshots that must be there, to their content
        self.gone = set()  # that must not
        self.copies = {}  # every copy that was ever asked for, to its content

    def write(self, number):
        raise NotImplementedError

    def change(self):
        self.number += 1
        self.write(self.number)
        self.live = {self.number}

    def number_now(self):
        (number,) = self.live
        return number

    def listed(self):
        return {snapshot["id"]: snapshot for snapshot in self.vibe.json("snapshots", self.name)["snapshots"]}

    def save(self):
        number = self.number_now()  # that of a restore, maybe
        saved = self.vibe.json("save", self.name, "--label", f"content={number}")
        self.acknowledged[saved["id"]] = number

    def words_for(self, what):
        """The command, and what is so when it succeeds."""
        if what.startswith("save") or not self.acknowledged:
            self.change()
        while len(self.acknowledged) < (1 if what == "save" else self.kept):
            self.save()
            self.forget_pruned()
        chosen = self.chance.choice(sorted(self.acknowledged))
        number, copy = self.acknowledged[chosen], f"copy-{len(self.copies) + 1}"
        if what.startswith("save"):
            return ["save", self.name, "--label", f"content={self.number}", "--json"], self.saved
        if what.startswith("restore"):
            self.live.add(number)
            return (["restore", self.name, chosen, *(["--no-safety"] if "without" in what else [])],
                    lambda _: self.restored(number))
        if what.startswith("duplicate"):
            self.copies[copy] = number if "snapshot" in what else self.number_now()
            return (["duplicate", self.name, copy, *(["--from", chosen] if "snapshot" in what else [])],
                    lambda _: self.copied(copy))
        if what == "remove a copy":
            self.copies[copy] = self.number_now()
            self.vibe("duplicate", self.name, copy)
            return ["rm", copy, "--yes"], lambda _: self.removed(copy)
        del self.acknowledged[chosen]
        return ["snapshot", "rm", self.name, chosen], lambda _: self.gone.add(chosen)

    def saved(self, out):
        self.acknowledged[json.loads(out)["id"]] = self.number

    def restored(self, number):
        self.live = {number}

    def copied(self, copy):
        assert self.vibe.project(copy), "an acknowledged copy is lost"

    def removed(self, copy):
        assert self.vibe.project(copy) is None, "a copy that was removed is back"

    def forget_pruned(self):
        """Snapshots may have given way to newer ones: the oldest go first, and no more than that."""
        listed = self.listed()
        lost = set(self.acknowledged) - set(listed)
        assert not lost or len(listed) >= self.kept, f"acknowledged snapshots are lost: {lost}"
        for snapshot in lost:
            del self.acknowledged[snapshot]

    def unsettled(self):
        """What is still under way."""
        records = [json.loads((folder / "project.json").read_text()) for folder in (self.vibe.home / "projects").iterdir()
                   if (folder / "project.json").exists()]
        left = [f"{record['name']} is pending: {record['pending']}" for record in records if record["pending"]]
        if self.vibe.run("snapshots", self.name).returncode != 0:
            return left + ["the supervisor does not answer"]
        return left + [f"{snapshot['id']} is not complete" for snapshot in self.listed().values()
                       if not snapshot["complete"]]

    def library(self):
        return {project["id"]: project["name"] for project in self.vibe.json("ps")["projects"]}

    def check(self, listed, on_disk, number_of):
        """`listed` and `on_disk` are the project's snapshots as they are told, and as they are (check_data); number_of is
        the content of one."""
        assert not [snapshot for snapshot in listed.values() if snapshot["problem"]], listed
        assert set(on_disk) == set(listed)
        self.forget_pruned()
        assert not self.gone & set(listed), "a snapshot that was removed is back"
        for snapshot, metadata in on_disk.items():
            found = number_of(snapshot)
            label = metadata["labels"].get("content")
            assert label is None or found == int(label)
            assert found == self.acknowledged.setdefault(snapshot, found)

    def check_live(self, found):
        assert found in self.live, f"the live state is {found}, and could be {self.live}"
        self.live = {found}

    def check_copy(self, name, found):
        assert found == self.copies[name], f"the copy is of {found}, and was made of {self.copies[name]}"
