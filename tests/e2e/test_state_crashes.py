"""The supervisor is killed while it saves, restores, copies, prunes and removes: at each fault point of src/state, and at any
time. When it is back, `current` and every snapshot is whole, and nothing is left of what was under way.

VIBE_TEST_TRIALS says how often (24, and for a Postgres a sixth of that), VIBE_TEST_SEED repeats a run."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest

from state_on_disk import check_data
from state_operations import COMPLETE, FAULTY, POINTS, RESTORE, SAVE, Operations, files_with, number_in
from vibe_cli import BIN, Failed, Vibe, eventually, get, probe, write_app

TRIALS = int(os.environ.get("VIBE_TEST_TRIALS", 24))
SEED = int(os.environ.get("VIBE_TEST_SEED", random.randrange(1 << 32)))
KEPT = 4  # snapshots; each save then prunes one
NAME = "crash"
# With a Postgres: trials, snapshots, rows, and the points that are passed in what a container does to its clone.
DATABASE_TRIALS, DATABASE_KEPT, ROWS = TRIALS // 6, 1000, 5000
DUMP = [*COMPLETE, "complete.dump", "complete.dump\nrecover.settled", "clone.made\nrecover.removed"]
LOAD = [*RESTORE, "clone.staged\nrecover.removed", "restore.exchanged\nrecover.settled"]
# Whatever dies often is started again ever later; a machine that is new starts it at once.
DEATHS_OF_A_MACHINE = 5


def fill_with_faults(folder):
    """The programs, with the supervisor that has fault points."""
    for program in BIN.glob("vibe*"):
        source = FAULTY if program.name == "vibe-supervisor" else program
        try:
            os.link(source, folder / program.name)
        except OSError:
            shutil.copy(source, folder / program.name)


def settle(crashes):
    """Waits until nothing is under way."""
    try:
        eventually(lambda: not crashes.unsettled(), timeout=40, what="order after the death")
    except (AssertionError, Failed) as error:
        logs = crashes.vibe.home / "machine" / "native" / "logs"
        for log in (crashes.vibe.home / "logs" / "vibed.log", logs / "console.log", logs / "supervisor.log"):
            print(f"{log.name}:", log.read_text(errors="replace")[-4000:], sep="\n")
        raise AssertionError(f"not in order: {error}, {crashes.vibe('ps')}") from None


class Crashes(Operations):
    def __init__(self, vibe, project, chance):
        super().__init__(vibe, project["name"], KEPT, chance)
        self.project, self.deaths, self.took = project, 0, {}
        (self.state() / "volumes" / "files" / "deep").mkdir()
        self.change()

    def data(self):
        return self.vibe.inside("/run/vibe/data")

    def state(self, project=None):
        return self.data() / "projects" / (project or self.project["id"]) / "current"

    def write(self, number):
        for name, data in files_with(number).items():
            (self.state() / "volumes" / name).write_bytes(data)
        os.sync()

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
        settle(self)
        if result.returncode == 0:
            succeeded(result.stdout)
        self.check_all()
        if self.deaths >= DEATHS_OF_A_MACHINE:
            self.deaths = 0
            self.vibe("machine", "stop", "--off")
            self.vibe("machine", "start")

    def unsettled(self):
        left = super().unsettled()
        return left if get(self.project["url"]) == "hello\n" else left + ["the app does not answer"]

    def check_all(self):
        listed, library = self.listed(), self.library()
        on_disk = check_data(self.data(), library)[self.project["id"]]
        self.check(listed, on_disk, lambda snapshot: number_in(self.state().parent / "snapshots" / snapshot / "state"))
        for metadata in on_disk.values():
            assert metadata["volumeManifests"]["rows"]["integrityCheck"] == "ok"
        self.check_live(number_in(self.state()))
        for project, name in library.items():
            if name != self.name:
                self.check_copy(name, number_in(self.state(project)))
                self.vibe("rm", name, "--yes")


@pytest.fixture
def faulty_vibe():
    """A Vibe whose supervisor has the fault points."""
    home = Path(tempfile.mkdtemp(prefix="vibe-e2e-"))
    programs = Path(tempfile.mkdtemp(prefix="faults-", dir=BIN.parent))  # where programs can have a second name
    vibe = Vibe(home / "home", programs=programs)
    try:
        fill_with_faults(programs)
        yield vibe
    finally:
        vibe.close()
        shutil.rmtree(programs)
        shutil.rmtree(home)


def test_everything_is_whole_after_every_death(faulty_vibe, tmp_path):
    print(f"VIBE_TEST_SEED={SEED}")
    app = write_app(tmp_path / NAME, [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                            stateVolumes=["files:/files", "rows:/rows"])],
                    state={"retention": {"maxSnapshots": KEPT},
                           "volumes": [{"name": "files"}, {"name": "rows", "consistency": "sqlite"}]})
    crashes = Crashes(faulty_vibe, faulty_vibe.open(app, name=NAME), random.Random(SEED))
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


def database_app(folder, version):
    database = {"name": "db", "image": f"vibe-examples/postgres:{version}",
                "env": {"POSTGRES_USER": "crash", "POSTGRES_PASSWORD": "crash"},
                "stateVolumes": ["data:/var/lib/postgresql/data"],
                "healthcheck": {"test": ["CMD", "pg_isready", "-q", "-U", "crash", "-h", "/run/postgresql"],
                                "interval": "1s", "startPeriod": "1m"}}
    return write_app(folder / str(version), [database], images=["postgres" if version == 15 else f"postgres{version}"],
                     version=f"{version}.0.0",
                     state={"retention": {"maxSnapshots": DATABASE_KEPT},
                            "volumes": [{"name": "data", "consistency": "postgres"}]})


def database_trials(chance):
    """A crash in the middle is the upgrade's; before and after it are those of saves, and after it those of restores."""
    def some(what, points, count):
        chosen = [(what, None)] * (count // 2)  # when the container is at work
        while len(chosen) < count:
            chosen += [(what, point) for point in chance.sample(points, min(len(points), count - len(chosen)))]
        chance.shuffle(chosen)
        return chosen

    third = max(2, DATABASE_TRIALS // 3)
    after = some("save", DUMP, (third - 1) // 2) + some("restore", LOAD, third)
    chance.shuffle(after)
    return some("save", DUMP, third) + [("upgrade", chance.choice(SAVE))] + after


class DatabaseCrashes(Operations):
    """A Postgres with one number in many rows. Deaths come at fault points, and at any time of what a container does with
    a clone: make a dump of it, or load one of an older version into it."""

    def __init__(self, vibe, app, chance):
        self.app = app
        super().__init__(vibe, "books", DATABASE_KEPT, chance)
        self.project = vibe.open(app(15), name=self.name)
        self.known = {}  # what a dump holds, by the digest of its file
        self.job_took = {"save": 1.5}
        self.sql("CREATE EXTENSION amcheck; CREATE TABLE numbers (id int PRIMARY KEY, n int, text text);"
                 f"INSERT INTO numbers SELECT id, 0, md5(id::text) FROM generate_series(1, {ROWS}) id")
        self.change()
        for _ in range(2):
            self.save()
            eventually(self.left_by_jobs, what="a container as containerd lists it")  # what check_all looks for can be seen
            self.change()
        self.old = dict(self.acknowledged)  # of the older version
        settle(self)

    def sql(self, statement):
        return self.vibe("exec", self.name, "-s", "db", "--", "psql", "-X", "-A", "-t", "-U", "crash", "-c", statement).strip()

    def write(self, number):
        self.sql(f"UPDATE numbers SET n = {number}")

    def number_live(self):
        self.vibe("exec", self.name, "-s", "db", "--", "pg_amcheck", "-U", "crash", "--heapallindexed", "crash")
        least, most, rows = self.sql("SELECT min(n), max(n), count(*) FROM numbers").split("|")
        assert least == most and int(rows) == ROWS, f"{rows} rows from {least} to {most}"
        return int(least)

    def number_in_dump(self, snapshot):
        """As the database's own program reads it."""
        file = self.folder() / "snapshots" / snapshot / "dumps" / "data.dump"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest not in self.known:
            with tarfile.open(file) as dump:
                databases = dump.extractfile("databases").read().decode().splitlines()
                assert b"ROLE" in dump.extractfile("globals.sql").read()
                custom = dump.extractfile(f"{databases.index('crash')}.dump").read()
            text = subprocess.run([self.vibe.programs / "vibe", "exec", "-i", self.name, "-s", "db", "--", "pg_restore",
                                   "-a", "-t", "numbers", "-f", "-"], env=self.vibe.environment, input=custom, check=True,
                                  capture_output=True, timeout=60).stdout.decode()
            rows = [line.split("\t") for line in text.split("FROM stdin;\n", 1)[1].split("\n\\.\n", 1)[0].splitlines()]
            numbers = {number for _, number, _ in rows}
            assert len(rows) == ROWS and len(numbers) == 1, f"{len(rows)} rows of {numbers}"
            self.known[digest] = int(numbers.pop())
        return self.known[digest]

    def folder(self):
        return self.vibe.inside("/run/vibe/data") / "projects" / self.project["id"]

    def jobs(self):
        """Processes of containers that work on a clone."""
        return [words for words in self.vibe.machine_processes().values() if " /vibe/" in words or ">/vibe/" in words]

    def in_containerd(self, *words):
        socket = self.vibe.inside("/run/vibe/containerd.sock")
        namespaces = subprocess.run(["ctr", "-a", socket, "namespaces", "ls", "-q"], check=True, capture_output=True, text=True)
        return [line for namespace in namespaces.stdout.split() for line in subprocess.run(
            ["ctr", "-a", socket, "-n", namespace, *words], check=True, capture_output=True, text=True).stdout.splitlines()]

    def left_by_jobs(self):
        listed = self.in_containerd("containers", "ls", "-q") + self.in_containerd("tasks", "ls", "-q")
        return [line for line in listed + self.in_containerd("snapshots", "ls") if line.startswith("job.")]

    def unsettled(self):
        left = super().unsettled() + self.jobs()
        if left or self.vibe.run("exec", self.name, "-s", "db", "--", "psql", "-U", "crash", "-c", "SELECT 1").returncode == 0:
            return left
        return ["the database does not answer"]

    def command_for(self, what):
        if what == "save":
            return self.words_for("save")
        if what == "upgrade":
            return ["open", self.app(17), "--yes", "--name", self.name], None
        chosen = self.chance.choice(sorted(self.old))
        self.live.add(self.old[chosen])
        return ["restore", self.name, chosen, "--json"], lambda _: self.restored(self.old[chosen])

    def kill_in_a_job(self, what, command):
        eventually(lambda: self.jobs() or (what != "save" and not command.is_alive()), what="a container that works on a clone")
        time.sleep(self.chance.uniform(0, self.job_took[what]))
        self.vibe.kill("vibe-supervisor")

    def trial(self, what, fault):
        (words, succeeded), results = self.command_for(what), []
        armed = self.vibe.inside("/run/vibe/fault")
        if fault:
            armed.write_text(fault + "\n")
        command = threading.Thread(target=lambda: results.append(self.vibe.run(*words, timeout=240)))
        command.start()
        if fault:
            eventually(lambda: not armed.read_text(), timeout=60, what=f"the death at {fault!r}")
            armed.unlink()
        else:
            self.kill_in_a_job(what, command)
        command.join()
        if what == "upgrade":
            self.go_on_with_the_new_version()
        settle(self)
        if what != "upgrade" and results[0].returncode == 0:
            succeeded(results[0].stdout)
        self.check_all()
        self.vibe("machine", "stop", "--off")  # or the next death is answered later and later
        self.vibe("machine", "start")
        settle(self)
        return results[0].returncode == 0

    def go_on_with_the_new_version(self):
        """The files are of the version before: it does not start on them."""
        eventually(lambda: self.vibe.run("snapshots", self.name).returncode == 0, what="an answer of the supervisor")
        assert "holds a cluster of PostgreSQL 15" in self.vibe.fails(*self.command_for("upgrade")[0], timeout=240)
        assert "before-upgrade" in [snapshot["reason"] for snapshot in self.listed().values()], "it was not saved"
        words, succeeded = self.command_for("restore")
        begun = time.monotonic()
        succeeded(self.vibe(*words, "--no-safety", timeout=240))  # what is there, no program of this version can read
        self.job_took["restore"] = time.monotonic() - begun
        self.vibe("start", self.name)
        assert self.sql("SHOW server_version_num").startswith("17")

    def go_back_to_the_old_version(self):
        before = next(snapshot for snapshot in self.listed().values() if snapshot["reason"] == "before-upgrade")
        self.vibe("restore", self.name, before["id"], timeout=240)
        self.vibe("start", self.name)
        assert self.sql("SHOW server_version_num").startswith("15")
        assert self.number_live() == self.number_in_dump(before["id"])

    def check_all(self):
        on_disk = check_data(self.vibe.inside("/run/vibe/data"), self.library())[self.project["id"]]
        self.check(self.listed(), on_disk, self.number_in_dump)
        for snapshot, metadata in on_disk.items():
            volume = metadata["volumeManifests"]["data"]
            assert volume.get("dumpFormat") == "pg_dump_custom" and not volume.get("rawOnly"), f"{snapshot}: {volume}"
        self.check_live(self.number_live())
        assert not (self.folder() / "current" / ".vibe-postgres").exists()
        assert not self.left_by_jobs(), "a job's container is left"


def test_a_database_is_whole_after_every_death(faulty_vibe, tmp_path):
    print(f"VIBE_TEST_SEED={SEED}")
    crashes = DatabaseCrashes(faulty_vibe, lambda version: database_app(tmp_path, version), random.Random(SEED))
    trials = database_trials(crashes.chance)
    done = {}
    for number, (what, fault) in enumerate(trials):
        try:
            through = crashes.trial(what, fault)
        except BaseException:
            print(f"in trial {number}: {what}, killed at {fault or 'some time'!r}")
            raise
        done.setdefault(what, []).append("came through" if through else "broken off")
    if "upgrade" in done:
        crashes.go_back_to_the_old_version()
    print(f"{len(trials)} deaths: {done}")
