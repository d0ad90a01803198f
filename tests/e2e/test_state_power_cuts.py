"""The power of a virtual machine is cut while a project is saved, restored, copied, or loses a snapshot: at fault points of
src/state, and at any time. After the boot `current` and every snapshot is whole, what was acknowledged is there, and nothing
is left of what was under way.

VIBE_TEST_TRIALS says how often (5), VIBE_TEST_SEED repeats a run. tests/integration/state/crash_test.cpp cuts the power of a
disk hundreds of times, without a machine."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from killing_image import make_killing_image
from state_on_disk import check_data
from state_operations import FAULTY, POINTS, Operations, files_with, number_in
from vibe_cli import Vibe, eventually, get, probe, write_app

TRIALS = int(os.environ.get("VIBE_TEST_TRIALS", 5))
SEED = int(os.environ.get("VIBE_TEST_SEED", random.randrange(1 << 32)))
NAME, KEPT, BOOT = "cut", 3, 180


@contextmanager
def mounted(image):
    """A copy of the data disk's file."""
    folder = Path(tempfile.mkdtemp(prefix="vibe-disk-"))
    place = folder / "mount"
    place.mkdir()
    subprocess.run(["cp", "--sparse=always", image, folder / "image"], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", folder / "image", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        shutil.rmtree(folder)


class PowerCuts(Operations):
    def __init__(self, vibe, project, chance):
        super().__init__(vibe, project["name"], KEPT, chance)
        self.project, self.took = project, {}
        self.change()

    def write(self, number):
        for name, data in files_with(number).items():
            path = "/" + name.replace("deep/", "")  # nobody makes that folder
            subprocess.run([self.vibe.programs / "vibe", "exec", "-i", self.name, "--", "/probe", "write", path, "-"],
                           env=self.vibe.environment, input=data, check=True, timeout=60)

    def console(self, since=""):
        """What the guest has said, without what it had said before."""
        log = self.vibe.home / "machine" / "qemu" / "logs" / "console.log"
        return log.read_text(errors="replace").removeprefix(since)

    def arm(self, fault):
        """Of several points one is armed now, and each other in a boot that follows."""
        before = self.console()
        lines = "\n".join(f"stop {point}" for point in fault.split("\n"))
        self.vibe("exec", self.name, "/probe", "write", "/files/fault", lines)
        eventually(lambda: "armed the fault: " in self.console(before), what="the armed fault point")

    def cut(self, point=None, before=""):
        """Now, or when the supervisor stands still at the point."""
        qemu = eventually(lambda: self.vibe.machine_process("qemu-system"), BOOT, "a machine")
        said = f"stopped at the fault point {point}\n"
        if point is not None:
            eventually(lambda: said in self.console(before) or self.vibe.machine_process("qemu-system") != qemu, BOOT, said)
        os.kill(qemu, signal.SIGKILL)
        eventually(lambda: self.vibe.machine_process("qemu-system") != qemu, what="the end of qemu")

    def trial(self, what, fault):
        """Whether the command came through before the cut, as it may."""
        words, succeeded = self.words_for(what)
        results = []
        if "\n" in (fault or ""):
            self.vibe.kill_vibed()  # the next one has brought no machine back yet, which it does only so often within minutes
        if fault:
            self.arm(fault)
        before = self.console()
        started = time.monotonic()
        command = threading.Thread(target=lambda: results.append((self.vibe.run(*words), time.monotonic() - started)))
        command.start()
        if fault:
            for point in fault.split("\n"):
                self.cut(point, before)
        else:
            time.sleep(self.chance.uniform(0.02, self.took.get(what, 0.5)))
            self.cut()
        if "\n" not in (fault or "") and self.chance.random() < 0.7:
            self.vibe.kill_vibed()  # it was the host's power
            self.vibe("machine", "start", timeout=BOOT)
        command.join()
        (result, took), = results
        try:
            eventually(self.back, BOOT, "the boot after the cut")
            eventually(lambda: get(self.project["url"]) == "hello\n", BOOT, "the app after the power cut")
            eventually(lambda: not self.unsettled(), 60, "a supervisor that has put everything in order")
        except AssertionError:
            print(self.vibe.json("machine", "status"), self.vibe("machine", "logs", "--tail", "30"), self.vibe.run("ps").stdout)
            raise
        if result.returncode == 0:
            if not fault:
                self.took[what] = took
            succeeded(result.stdout)
        self.check_all()
        return result.returncode == 0

    def back(self):
        again = self.vibe.machine_process("qemu-system") is not None  # asked first: vibed notices its end after a while
        state = self.vibe.json("machine", "status")["state"]
        if state == "error":  # it was brought back as often as vibed does within some minutes
            self.vibe("machine", "start", timeout=BOOT)
        return again and state == "ready"

    def check_all(self):
        listed, library = self.listed(), self.library()
        assert self.vibe.json("machine", "stop")["suspended"]  # nothing moves, and everything is on the disk
        with mounted(self.vibe.home / "machine" / "qemu" / "data.img") as data:
            on_disk = check_data(data, library)[self.project["id"]]
            folder = data / "projects" / self.project["id"]
            numbers = {snapshot: number_in(folder / "snapshots" / snapshot / "state") for snapshot in on_disk}
            found = number_in(folder / "current")
            for project, name in library.items():
                if name != self.name:
                    self.check_copy(name, number_in(data / "projects" / project / "current"))
        self.vibe("machine", "start", timeout=BOOT)
        self.check(listed, on_disk, numbers.get)
        self.check_live(found)
        eventually(lambda: get(f"{self.project['url']}/read/files/one") == f"{found}\n", what="the live state in the app")
        for name in set(library.values()) - {self.name}:
            self.vibe("rm", name, "--yes")


@pytest.fixture
def cuts(tmp_path):
    home = Path(tempfile.mkdtemp(prefix="vibe-vm-"))
    image = tmp_path / "image"
    image.mkdir()
    vibe = Vibe(home / "home", machine="qemu")
    vibe.environment.update({"VIBE_MACHINE_MEMORY": "1GiB", "VIBE_MACHINE_DISK": "2GiB",
                             "VIBE_VM_IMAGE": str(make_killing_image(image, FAULTY))})
    app = write_app(tmp_path / NAME, [probe("web", ["serve", "8080", "hello"], ports=[{"container": 8080}],
                                            stateVolumes=["files:/files", "rows:/rows"])],
                    state={"retention": {"maxSnapshots": KEPT},
                           "volumes": [{"name": "files"}, {"name": "rows", "consistency": "sqlite"}]})
    try:
        yield PowerCuts(vibe, vibe.open(app, name=NAME), random.Random(SEED))
    finally:
        vibe.close()
        shutil.rmtree(home)


def test_everything_is_whole_after_every_power_cut(cuts):
    print(f"VIBE_TEST_SEED={SEED}")
    points = [(what, fault) for what, faults in POINTS.items() for fault in faults]
    anything = list(POINTS)
    for chosen in (points, anything):
        cuts.chance.shuffle(chosen)
    done = {}
    for number in range(TRIALS):
        what, fault = (points[number // 2 % len(points)] if number % 2 == 0
                       else (anything[number // 2 % len(anything)], None))
        try:
            through = cuts.trial(what, fault)
        except BaseException:
            print(f"in trial {number}: {what}, cut at {fault or 'some time'!r}")
            raise
        where = "at a point" if fault else "came through" if through else "cut off"
        done.setdefault(what, []).append(where)
    print(f"{TRIALS} power cuts: {done}")
