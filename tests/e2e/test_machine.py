"""What `vibe machine` does to the machine and to what runs in it."""

import os
import signal
import subprocess
import time

import pytest

from vibe_cli import BIN, eventually, get, probe, write_app

WEB_PORT = [{"container": 8080}]
DISK = ("machine", "native", "data.img")


@pytest.fixture
def app(fresh_vibe, tmp_path):
    folder = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "well"], ports=WEB_PORT,
                                                stateVolumes=["data:/data"])],
                       state={"volumes": [{"name": "data"}]})
    return fresh_vibe.open(folder, name="app")


def test_restart_is_a_new_machine_and_what_ran_runs_again(fresh_vibe, app):
    before = fresh_vibe.machine_init()
    fresh_vibe("exec", "app", "/probe", "write", "/data/kept", "kept")
    assert fresh_vibe.json("machine", "restart")["state"] == "ready"
    assert fresh_vibe.machine_init() not in (before, None)
    assert eventually(lambda: get(app["url"]), what="the app") == "well\n"
    assert get(app["url"] + "/read/data/kept") == "kept"
    fresh_vibe("machine", "stop")
    assert fresh_vibe.json("machine", "restart")["state"] == "ready", "a stopped machine is started"


def test_logs_are_there_while_the_machine_is_stopped_and_follow_its_next_start(fresh_vibe):
    assert fresh_vibe("machine", "logs") == "", "a machine that never ran said something"
    fresh_vibe("machine", "start")
    fresh_vibe("machine", "stop")
    lines = fresh_vibe.json("machine", "logs")["lines"]
    assert any("start" in line["text"] for line in lines) and all(line["time"] for line in lines), lines
    assert len(fresh_vibe("machine", "logs", "-n", "2").splitlines()) == 2
    assert fresh_vibe.json("machine", "status")["state"] == "stopped", "looking started it"
    with subprocess.Popen([str(BIN / "vibe"), "machine", "logs", "-f", "-n", "0"], env=fresh_vibe.environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as following:
        fresh_vibe("machine", "start")
        assert "---- start" in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=10) == 130


def test_reset_takes_all_projects_and_leaves_a_machine_that_works(fresh_vibe, app, tmp_path):
    fresh_vibe("exec", "app", "/probe", "write", "/data/kept", "kept")
    error = fresh_vibe.fails("machine", "reset")
    assert "the project app with its data" in error and "--yes" in error
    assert get(app["url"]) == "well\n", "a reset that was not confirmed did something"
    disk = fresh_vibe.home.joinpath(*DISK)
    taken = disk.stat().st_blocks * 512
    gone = fresh_vibe.json("machine", "reset", "--yes")
    assert gone["projects"] == ["app"] and gone["bytes"] >= taken > 0
    assert not disk.exists() and not list(disk.parent.glob("erased-*"))
    assert fresh_vibe.json("ps")["projects"] == []
    assert fresh_vibe.json("machine", "status")["state"] == "stopped"
    assert get(app["url"]) is None
    again = fresh_vibe.open(tmp_path / "app", name="app")
    assert again["id"] != app["id"]
    assert get(again["url"] + "/read/data/kept") is None, "the data is still there"


def test_reset_of_a_machine_that_hangs(fresh_vibe, app):
    init = fresh_vibe.machine_init()
    for pid in fresh_vibe.machine_processes():
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert fresh_vibe.json("machine", "reset", "--yes", timeout=120)["projects"] == ["app"]
    assert time.monotonic() - started < 90
    assert fresh_vibe.machine_init() is None and init is not None


def test_a_disk_of_garbage_is_refused_untouched_and_a_reset_helps(fresh_vibe):
    disk = fresh_vibe.home.joinpath(*DISK)
    disk.parent.mkdir(parents=True)
    with open(disk, "wb") as file:
        file.write(b"a user's other file system" * 1000)
        file.truncate(1 << 30)
    error = fresh_vibe.fails("machine", "start")
    assert "data disk" in error and "vibe machine reset" in error
    with open(disk, "rb") as file:
        assert file.read(26) == b"a user's other file system"
    assert fresh_vibe.json("machine", "reset", "--yes")["projects"] == []
    assert fresh_vibe.json("machine", "start")["state"] == "ready"


def test_a_reset_that_was_cut_off_is_finished_by_the_next_vibed(fresh_vibe, app):
    fresh_vibe("machine", "stop")
    fresh_vibe.kill_vibed()
    disk = fresh_vibe.home.joinpath(*DISK)
    (fresh_vibe.home / "machine" / "reset.json").write_text('{"data": ["machine/native/data.img"]}')
    assert fresh_vibe.json("ps")["projects"] == []
    assert not disk.exists() and not list(disk.parent.glob("erased-*"))
    assert not (fresh_vibe.home / "machine" / "reset.json").exists()
