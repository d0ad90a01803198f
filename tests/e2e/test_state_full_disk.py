"""An app that fills the machine's disk does not take the user's tools away."""

import json
import os
import subprocess

import pytest

from vibe_cli import EXAMPLES, Vibe, eventually, get, probe, write_app

WEB_PORT = [{"container": 8080}]
MIB = 1 << 20


@pytest.fixture
def small(tmp_path):
    """A Vibe whose machine has a disk of 1 GiB, with an app that can fill it, and a second one."""
    vibe = Vibe(tmp_path / "home")
    vibe.home.mkdir()
    (vibe.home / "machine.json").write_text(json.dumps({"disk": "1GiB"}))
    try:
        app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "well"], ports=WEB_PORT,
                                                 stateVolumes=["files:/files"])],
                        state={"volumes": [{"name": "files"}]})
        vibe.url = vibe.open(app, name="eater")["url"]
        vibe.open(app, name="other")
        vibe.app = app
        yield vibe
    finally:
        vibe.close()


def parts(vibe):
    """The parts of the disk's reserve that are there."""
    return sorted(path.name for path in vibe.inside("/run/vibe/data/reserve").glob("*"))


def fill(vibe):
    result = vibe.run("exec", "eater", "/probe", "bulk", "/files/big", "3000")
    assert result.returncode != 0 and "No space left" in result.stderr, result.stderr


def test_what_frees_space_works_on_a_disk_that_an_app_has_filled(small):
    vibe = small
    eventually(lambda: parts(vibe) == ["0", "1", "2", "3"], what="the reserve")
    first = vibe.json("save", "eater")["id"]
    second = vibe.json("save", "eater")["id"]
    # Not full yet, and there is no room for an app of 25 MiB: that is known before it is half there.
    left = vibe.json("machine", "status")["disk"]["freeBytes"] // MIB
    vibe("exec", "eater", "/probe", "bulk", "/files/big", left - 40)
    assert "this needs" in vibe.fails("open", EXAMPLES / "notes", "--yes")
    fill(vibe)
    status = vibe.json("machine", "status")
    left = status["disk"]["freeBytes"] // MIB
    assert left < 5 and f" {left} MiB left of " in status["diskWarning"], "the warning is of another instant"
    for command in (["save", "eater"], ["open", vibe.app, "--yes", "--name", "third"], ["restore", "eater", first],
                    ["restart", "eater"]):
        assert "disk is almost full" in vibe.fails(*command), command
    assert get(vibe.url) == "well\n", "it was stopped for what was refused"
    vibe("snapshot", "rm", "eater", second)
    vibe("stop", "other")
    assert "disk is almost full" in vibe.fails("start", "other")
    vibe("rm", "other", "--yes")

    # A boot on the full disk, with what ran.
    fill(vibe)
    vibe("machine", "stop", "--off")
    vibe("machine", "start")
    eventually(lambda: get(vibe.url) == "well\n", what="the app after the boot")
    fill(vibe)
    vibe("exec", "eater", "/probe", "remove", "/files/big")
    eventually(lambda: len(parts(vibe)) == 4, what="the reserve when there was room again")
    assert vibe.json("machine", "status")["diskWarning"] == ""

    # A restore without a safety snapshot frees the disk, too.
    fill(vibe)
    vibe("restore", "eater", first, "--no-safety")
    assert get(vibe.url) == "well\n"
    eventually(lambda: not vibe.json("machine", "status")["diskWarning"], what="the room of the state that went")
    fill(vibe)
    vibe("rm", "eater", "--yes")
    eventually(lambda: len(parts(vibe)) == 4, what="the reserve at the end")


def test_a_disk_with_no_reserve_left_is_said_to_be_full_and_grows(small):
    vibe = small
    for part in parts(vibe):  # as when an app goes on writing whatever is given up
        (vibe.inside("/run/vibe/data/reserve") / part).unlink()
    os.sync()
    filler = vibe.inside("/run/vibe/data/filler")
    for block in ("1M", "4k"):
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "oflag=append", "conv=notrunc", f"bs={block}", "status=none"],
                       check=False, stderr=subprocess.DEVNULL)
        os.sync()
    vibe.run("machine", "stop", "--off", timeout=90)
    # As a warning, or as why it does not start (supervisor_disk_test.cpp).
    assert 'larger "disk" in machine.json' in vibe.run("machine", "start", timeout=200).stderr
    (vibe.home / "machine.json").write_text(json.dumps({"disk": "2GiB"}))
    vibe("machine", "restart")
    eventually(lambda: len(parts(vibe)) == 4, what="the reserve on the larger disk")
    assert vibe.json("machine", "status")["diskWarning"] == ""
    vibe("rm", "other", "--yes")
