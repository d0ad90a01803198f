"""Opening, starting, stopping and removing leaves nothing behind."""

import os
import subprocess
from pathlib import Path

from vibe_cli import get, probe, write_app

ROUNDS = int(os.environ.get("VIBE_LEAK_ROUNDS", "50"))


def inside(vibe, *command):
    """The lines that a command prints in the machine's namespaces."""
    return subprocess.run(["nsenter", f"--target={vibe.machine_init()}", "--mount", "--net", "--pid", *command],
                          capture_output=True, text=True, check=True).stdout.splitlines()


def containerd_objects(vibe):
    """Everything that containerd has, by namespace and kind."""
    (words,) = vibe.machine_processes("vibe-supervisor").values()
    words = words.split(" ")
    ctr = ("ctr", "--address", words[words.index("--containerd") + 1])
    return {f"{namespace} {kind}": inside(vibe, *ctr, "--namespace", namespace, kind, "ls")[1:]
            for namespace in inside(vibe, *ctr, "namespaces", "ls", "--quiet")
            for kind in ("containers", "tasks", "snapshots", "leases", "images")}


def cgroups(vibe):
    """The machine's cgroups, in every hierarchy, as the host sees them."""
    (pid,) = vibe.machine_processes("containerd")
    paths = (line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    (top,) = {path.split("/")[1] for path in paths if path.startswith("/vibe-")}
    return sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{top}/**") if path.is_dir())


def open_files(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def loop_devices(vibe):
    """How many there are on this machine's data disk."""
    disk = str(vibe.home / "machine" / "native" / "data.img")
    return sum(path.read_text().strip() == disk for path in Path("/sys/block").glob("loop*/loop/backing_file"))


def snapshot(vibe):
    return {
        "processes": sorted(words.split(" ")[0] for words in vibe.machine_processes().values()),
        "mounts of the host": len(Path("/proc/self/mounts").read_text().splitlines()),
        "mounts of the machine": sorted(line.split(" ")[1] for line in inside(vibe, "cat", "/proc/self/mounts")),
        "network namespaces": inside(vibe, "ls", "/run/netns"),
        "interfaces": sorted(inside(vibe, "ls", "/sys/class/net")),
        "nft rules": inside(vibe, "nft", "list", "ruleset"),
        "iptables rules": [line for line in inside(vibe, "iptables-legacy-save") if line.startswith("-A")],
        "cgroups": cgroups(vibe),
        "containerd": containerd_objects(vibe),
        "open files of vibed": open_files([vibe.vibed()]),
        "open files of the supervisor": open_files(vibe.machine_processes("vibe-supervisor")),
        "open files of containerd": open_files(vibe.machine_processes("containerd")),
        "projects on the host": sorted(os.listdir(vibe.home / "projects")),
        "projects in the machine": inside(vibe, "ls", "/run/vibe/data/projects"),
        "packages": inside(vibe, "ls", "/run/vibe/data/packages"),
        "subvolumes": inside(vibe, "btrfs", "subvolume", "list", "/run/vibe/data"),
        "loop devices": loop_devices(vibe),
    }


def one_round(vibe, app):
    opened = vibe.open(app, name="round")
    for _ in range(4):  # each of the threads that carry connections has what it needs from the first round on
        assert get(opened["url"]) == "round\n"
    vibe("stop", "round")
    vibe("start", "round")
    vibe("stop", "round")
    vibe("rm", "round", "--yes")


def test_nothing_is_left_after_many_rounds(fresh_vibe, tmp_path):
    vibe = fresh_vibe
    app = write_app(tmp_path / "app", [
        probe("back", ["serve", "9000"], stateVolumes=["data:/data"]),
        probe("web", ["serve", "8080", "round"], ports=[{"container": 8080}], dependsOn=["back"])],
        state={"volumes": [{"name": "data"}]})
    for _ in range(2):  # what is made once and kept, such as thread pools
        one_round(vibe, app)
    before = snapshot(vibe)
    for _ in range(ROUNDS):
        one_round(vibe, app)
    after = snapshot(vibe)
    for what in before:
        if what.startswith("open files"):  # a connection may be on its way to be closed
            assert after[what] <= before[what] + 3, f"{what}: {before[what]} before, {after[what]} after"
        else:
            assert after[what] == before[what], what
