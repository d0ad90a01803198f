"""Apps in a virtual machine as a user has it, and what becomes of them when the machine, its guest or its disk fails.
One VM for most tests: under software emulation a boot takes both processors for seconds."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from killing_image import make_killing_image
from vibe_cli import Vibe, eventually, get, probe, write_app

WEB_PORT = [{"container": 8080}]
VOLUME = {"volumes": [{"name": "data"}]}
MIB = 1 << 20
# For what has to wait for a boot.
BOOT = 120


# "serial": as on a host that has neither vsock nor a device for it.
TRANSPORT = os.environ.get("VIBE_TEST_TRANSPORT", "")


def make(home=None, transport=TRANSPORT, **variables):
    home = home or Path(tempfile.mkdtemp(prefix="vibe-vm-"))
    cli = Vibe(home / "home", machine="qemu")
    cli.environment.update({"VIBE_MACHINE_MEMORY": "2GiB", **variables})
    if transport == "serial":
        if os.access("/dev/vhost-vsock", os.R_OK | os.W_OK):
            pytest.skip("this host's kernel has vsock")
        folders = [folder for folder in os.environ["PATH"].split(":")
                   if not (Path(folder) / "vhost-device-vsock").exists()]
        cli.environment.update(PATH=":".join(folders), HOME=str(home))
    return cli


def end(cli):
    cli.close()
    left = cli.machine_process("qemu-system")
    shutil.rmtree(cli.home.parent)
    assert left is None, "qemu is left"


@pytest.fixture(scope="module")
def vm(tmp_path_factory):
    cli = make(VIBE_VM_IMAGE=str(make_killing_image(tmp_path_factory.mktemp("image"))))
    yield cli
    end(cli)


@pytest.fixture
def small_vm():
    cli = make(VIBE_MACHINE_DISK="1GiB", VIBE_MACHINE_MEMORY="1GiB")
    yield cli
    end(cli)


@pytest.fixture(scope="module")
def app(vm, tmp_path_factory):
    folder = write_app(tmp_path_factory.mktemp("vm") / "app", [
        probe("web", ["serve", "8080", "one"], ports=WEB_PORT, stateVolumes=["data:/data"])], state=VOLUME)
    opened = vm.open(folder, name="one")
    assert get(opened["url"]) == "one\n"
    boot = json.loads((vm.home / "machine" / "qemu" / "run" / "boot.json").read_text())
    assert (boot["transport"] == "virtio-serial") == (TRANSPORT == "serial")
    vm("exec", "one", "/probe", "write", "/data/kept", "the user's data")
    return opened


def answers(url):
    """The kept data, read through the page."""
    return get(f"{url}/read/data/kept") == "the user's data"


def qemu(vm):
    return vm.machine_process("qemu-system")


def test_two_projects_run_side_by_side_and_keep_apart(vm, app, tmp_path):
    other = vm.open(write_app(tmp_path / "other", [probe("web", ["serve", "8080", "two"], ports=WEB_PORT)]), name="two")
    assert get(other["url"]) == "two\n" and answers(app["url"])
    address = vm("exec", "two", "/probe", "read", "/etc/hosts")
    there = next(line.split()[0] for line in address.splitlines() if "web" in line.split() and "." in line.split()[0])
    assert vm.run("exec", "two", "/probe", "connect", there, "8080").returncode == 0
    assert vm.run("exec", "one", "/probe", "connect", there, "8080").returncode != 0
    # Where forwarded connections come in without vsock: the page above did.
    for place in (there.rsplit(".", 1)[0] + ".1", "10.0.2.15"):
        assert vm.run("exec", "two", "/probe", "connect", place, "1025").returncode != 0, "a service reaches the supervisor"
    vm("rm", "two", "--yes")


def test_a_power_cut_loses_nothing_that_was_synced(vm, app):
    before = vm.json("machine", "status")["recoveries"]
    os.kill(qemu(vm), signal.SIGKILL)
    eventually(lambda: answers(app["url"]), timeout=BOOT, what="the app and its data after the power cut")
    machine = vm.json("machine", "status")
    assert machine["recoveries"] == before + 1, f"{machine}\n{vm('machine', 'logs', '--tail', 100)}"
    assert machine["recoveryCause"] == "the machine died"


def test_a_killed_vibed_disturbs_nobody(vm, app):
    before = qemu(vm)
    vm.kill_vibed()
    assert vm.project("one")["status"] == "running"
    assert qemu(vm) == before
    assert eventually(lambda: answers(app["url"]), what="the app through the new vibed")


@pytest.mark.parametrize("program", ["vibe-supervisor", "containerd"])
def test_the_app_outlives_a_killed(vm, app, program):
    def facts():
        machine = vm.json("machine", "status")
        web = vm.service("one", "web")
        return machine["recoveries"], qemu(vm), web["status"], web["startedAt"], web["restartCount"]

    def kills():
        return vm("machine", "logs", "--tail", 1000).count(f"{program.removeprefix('vibe-')} was killed by signal 9")

    def killed():
        # Forwarded connections are the supervisor's; containerd has no part in them.
        assert program == "vibe-supervisor" or answers(app["url"]), "the page fell silent"
        return kills() > before_kills

    before, before_kills = facts(), kills()
    # What kills may be quicker than the command that asks for it.
    vm.run("exec", "one", "/probe", "write", "/data/kill", program)
    eventually(killed, what=f"the end of {program}")
    eventually(lambda: answers(app["url"]), timeout=30, what="the page")
    eventually(lambda: facts() == before, timeout=30, what="the same container, running as before,")
    assert vm("exec", "one", "/probe", "read", "/data/kept") == "the user's data"
    assert kills() == before_kills + 1
    vm("stop", "one")
    assert vm.project("one")["status"] == "stopped" and get(app["url"]) is None
    vm("start", "one")
    assert answers(app["url"])


def test_stop_suspends_and_start_goes_on_with_the_right_time(vm, app):
    started = vm.service("one", "web")["startedAt"]
    stopped = vm.json("machine", "stop")
    assert stopped["suspended"], stopped["saveError"]
    assert qemu(vm) is None
    assert vm.project("one")["status"] == "stopped" and get(app["url"]) is None
    time.sleep(3)
    resumed = vm.json("machine", "start")
    assert resumed["resumed"], resumed["saveError"]
    awake = time.monotonic()
    assert eventually(lambda: answers(app["url"]), what="the app after the resume")
    assert vm.service("one", "web")["startedAt"] == started, "the service was started anew"
    time.sleep(max(0, 1 - (time.monotonic() - awake)))
    before = time.time()
    guest = float(vm("exec", "one", "/probe", "clock"))
    assert before - 0.05 <= guest <= time.time() + 0.05, "the guest's clock is wrong a second after it woke up"


def test_power_off_and_boot(vm, app):
    assert not vm.json("machine", "stop", "--off")["suspended"]
    started = vm.json("machine", "start", timeout=BOOT)
    assert started["state"] == "ready" and not started["resumed"]
    eventually(lambda: answers(app["url"]), timeout=60, what="the app after the boot")


def test_memory_of_a_stopped_app_goes_back_to_the_host(vm, app, tmp_path):
    def resident():
        status = Path(f"/proc/{qemu(vm)}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem")) // 1024

    before = resident()
    vm.open(write_app(tmp_path / "hungry", [probe("eater", ["fill", "1024"])]), name="hungry")
    eventually(lambda: "filled" in vm("logs", "hungry"), timeout=120, what="the gibibyte")
    full = resident()
    assert full - before > 700, "the test did not fill the memory that it wants back"
    vm("rm", "hungry", "--yes")
    eventually(lambda: full - resident() > 0.8 * 1024, timeout=30, what="80 % of the memory on the host")


def test_deleted_data_leaves_the_disks_file(vm, app):
    disk = vm.home / "machine" / "qemu" / "data.img"
    before = disk.stat().st_blocks * 512
    vm("exec", "one", "/probe", "bulk", "/data/bulk", "2048", timeout=300)
    full = disk.stat().st_blocks * 512
    assert full - before > 1900 * MIB
    vm("exec", "one", "/probe", "remove", "/data/bulk")
    eventually(lambda: full - disk.stat().st_blocks * 512 > 0.9 * 2048 * MIB, timeout=60,
               what="90 % of the data's blocks on the host")


def test_a_guest_that_hangs_is_stopped_and_started_within_a_bound(vm, app):
    for program in ("qemu-system", "vhost-device-vsock"):
        pid = vm.machine_process(program)
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert vm.json("machine", "stop", "--off", timeout=60)["state"] == "stopped"
    assert time.monotonic() - started < 30
    assert qemu(vm) is None
    run = vm.home / "machine" / "qemu"
    (run / "pid").write_text("1 1 00000000-0000-0000-0000-000000000000\n")  # as a crash of the host leaves them
    (run / "run").mkdir(exist_ok=True)
    (run / "run" / "qmp.sock").write_text("")
    assert vm.json("machine", "start", timeout=BOOT)["state"] == "ready"
    eventually(lambda: answers(app["url"]), timeout=60, what="the app after the hang")


def test_a_guest_waits_while_the_hosts_disk_is_full_and_goes_on_by_itself(tmp_path):
    image, mount = tmp_path / "disk.img", Path(tempfile.mkdtemp(prefix="vibe-vm-full-"))
    subprocess.run(["truncate", "-s", "768M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    cli, writer = make(mount, VIBE_MACHINE_MEMORY="1GiB"), None
    try:
        opened = cli.open(write_app(tmp_path / "app", [
            probe("web", ["serve", "8080", "waits"], ports=WEB_PORT, stateVolumes=["data:/data"])], state=VOLUME))
        cli("exec", "app", "/probe", "write", "/data/kept", "from before")
        process = qemu(cli)
        filler = mount / "filler"
        for block in ("1M", "4k"):
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "oflag=append", "conv=notrunc", f"bs={block}",
                            "status=none"], check=False, stderr=subprocess.DEVNULL)
        writer = subprocess.Popen([str(cli.programs / "vibe"), "exec", "app", "/probe", "bulk", "/data/bulk", "300"],
                                  env=cli.environment, stdin=subprocess.DEVNULL)
        held = eventually(lambda: cli.json("machine", "status")["state"] == "paused" and cli.json("machine", "status"),
                          timeout=60, what="the machine's waiting")
        assert "disk is full" in held["error"] and "by itself" in held["error"]
        assert cli.project("app")["status"] == "unknown"
        assert "disk is full" in cli.fails("machine", "start")
        time.sleep(12)  # longer than a guest may be silent
        assert qemu(cli) == process, "a guest that only waits was ended"
        filler.unlink()
        eventually(lambda: get(opened["url"]) == "waits\n", timeout=BOOT, what="the page after there was room again")
        cli("exec", "app", "/probe", "write", "/data/after", "there is room again")
        assert get(f"{opened['url']}/read/data/kept") == "from before"
        assert get(f"{opened['url']}/read/data/after") == "there is room again"
        # Through vhost-device-vsock no guest can be called again that stood still: it is booted.
        assert (qemu(cli) == process) == (TRANSPORT == "serial")
    finally:
        if writer is not None:
            writer.kill()
            writer.wait()
        cli.close()
        subprocess.run(["umount", mount], check=True)
        mount.rmdir()


def test_a_full_disk_is_a_clear_error_and_a_machine_that_lives(small_vm, tmp_path):
    opened = small_vm.open(write_app(tmp_path / "app", [
        probe("web", ["serve", "8080", "small"], ports=WEB_PORT, stateVolumes=["data:/data"])], state=VOLUME))
    result = small_vm.run("exec", "app", "/probe", "bulk", "/data/bulk", "2048", timeout=300)
    assert result.returncode == 1 and "No space left on device" in result.stderr
    assert get(opened["url"]) == "small\n"
    assert small_vm.json("machine", "status")["state"] == "ready"
    small_vm("exec", "app", "/probe", "remove", "/data/bulk")
    small_vm("exec", "app", "/probe", "write", "/data/kept", "well again")
    assert get(f"{opened['url']}/read/data/kept") == "well again"

    # And what is no disk of ours is refused, untouched, until somebody gives it up.
    small_vm("machine", "stop", "--off")
    disk = small_vm.home / "machine" / "qemu" / "data.img"
    with open(disk, "r+b") as file:
        file.truncate(0)
        file.write(b"a user's other file system" * 100_000)
        file.truncate(1 << 30)
    error = small_vm.fails("machine", "start", timeout=BOOT)
    assert "data disk" in error and "does not mount as btrfs" in error and "vibe machine reset" in error
    with open(disk, "rb") as file:
        assert file.read(26) == b"a user's other file system"
    assert small_vm.json("machine", "reset", "--yes")["projects"] == ["app"]
    assert not disk.exists()
