"""The Debian image, built and booted: what CI can reach and run. Four boots under software emulation."""

import os
import subprocess
import tempfile

import pytest

from conftest import HERE, ROOT, run_build
from machine import QEMU, Machine

MIB = 1 << 20
INIT = os.path.join(os.environ.get("VIBE_TEST_BIN_DIR", os.path.join(ROOT, "build", "bin")), "vibe-init")

pytestmark = pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")


def build(programs, out):
    cache = os.environ.get(
        "VIBE_PACKAGE_CACHE", os.path.join(tempfile.gettempdir(), f"vibe-packages-{os.getuid()}")
    )
    run_build("--distro", "debian", "--arch", "x86_64", "--bin", str(programs), "--out", str(out), "--cache", cache)


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """The real vibe-init and containerd; in the supervisor's place a program that looks around."""
    folder = tmp_path_factory.mktemp("image")
    programs = folder / "bin"
    programs.mkdir()
    assert os.path.exists(INIT), f"{INIT} is not built"
    (programs / "vibe-init").symlink_to(INIT)
    for name in ("vibe-supervisor", "vibe-logger"):
        subprocess.run(
            ["cc", "-static", "-O1", "-o", programs / name, os.path.join(HERE, "guest_probe.c")], check=True
        )
    build(programs, folder / "out")
    return str(folder / "out")


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "data.raw"
    with open(path, "wb") as file:
        file.truncate(1024 * MIB)
    return path


def probes(machine):
    machine.wait_for("PROBE done", 90)
    found = {}
    for line in machine.lines:
        words = line.split(" ")
        if words[0] == "PROBE" and len(words) > 2:
            key = " ".join(words[1:-1]) if words[1] == "argument" else words[1]
            found[key] = words[-1] if key != "controllers" else words[2:]
    return found


def test_the_same_packages_give_the_same_bytes_anywhere(image, tmp_path):
    build(os.path.join(image, "..", "bin"), tmp_path / "another" / "place")
    for name in ("kernel", "initrd", "manifest.json"):
        with open(os.path.join(image, name), "rb") as first, open(tmp_path / "another" / "place" / name, "rb") as second:
            assert first.read() == second.read(), f"{name} depends on where or when it is made"


def test_life_of_a_guest(image, disk, tmp_path):
    """A blank disk is formatted; power cut; larger disk; power button."""
    with Machine(image, disk, tmp_path) as machine:
        found = probes(machine)
        assert machine.wait_for("was blank: formatted, 1024 MiB")
        assert found["pivot_root"] == "ok", "containers cannot be made under this root"
        assert found["root_writable"] == "yes"
        assert set(found["controllers"]) >= {"cpu", "memory", "pids", "io"}
        assert found["vsock"] == "ok"
        assert found["boots"] == "1"
        assert (found["argument uplink"], found["argument host-gateway"], found["argument nameserver"]) == (
            "eth0",
            "10.0.2.2",
            "10.0.2.3",
        )
        assert found["argument blocked"] == "10.0.2.0/24"
        timeline = machine.wait_for(r"vibe-init: ready: (.*)")[1]
        for step in ("kernel", "root", "network", "devices", "disk", "containerd", "supervisor"):
            assert step in timeline.split()
        assert int(found["memory_used_mib"]) < 200, "an idle guest takes too much memory"
        print(f"\ntimeline: {timeline}; guest memory in use: {found['memory_used_mib']} MiB")
        machine.kill()

    os.truncate(disk, 2048 * MIB)
    with Machine(image, disk, tmp_path, "vibe.net=dhcp") as machine:
        found = probes(machine)
        assert found["boots"] == "2", "data written before the power cut are lost"
        assert found["data_mib"] == "2048", "the file system did not grow with its disk"
        assert found["argument nameserver"] == "10.0.2.3", "the DHCP lease did not arrive"
        machine.wait_for("vibe-init: ready")
        machine.press_power_button()
        machine.wait_off()
        assert "vibe-init: off" in machine.console()
        assert "is killed" not in machine.console()


def test_disk_with_something_else_on_it_is_refused_and_untouched(image, disk, tmp_path):
    with open(disk, "r+b") as file:
        file.seek(1024 * MIB - 4096)  # where only the last MiB shows it
        file.write(b"a user's data")
    before = disk.stat().st_blocks
    with Machine(image, disk, tmp_path) as machine:
        machine.wait_for(r"error: data disk: the data disk /dev/vda is not empty and does not mount as btrfs")
        machine.wait_for("vibe-init: error: fatal")
        machine.wait_off()
    with open(disk, "rb") as file:
        content = file.read()
    assert content.count(b"\0") == len(content) - len(b"a user's data"), "the refused disk was written to"
    assert disk.stat().st_blocks == before


def test_settings_of_another_version_are_refused(image, disk, tmp_path):
    with Machine(image, disk, tmp_path, "vibe.turbo=yes") as machine:
        machine.wait_for("vibe.turbo=yes, which this guest does not understand")
        machine.wait_off()
