"""Whatever of ours is killed, the app goes on, and the next command tells the truth."""

import os
import signal

import pytest

from vibe_cli import eventually, get, probe, write_app


@pytest.fixture(scope="module")
def app(vibe, tmp_path_factory):
    folder = write_app(tmp_path_factory.mktemp("crash") / "app", [
        probe("back", ["serve", "9000", "back"]),
        probe("web", ["serve", "8080", "front"], ports=[{"container": 8080}], dependsOn=["back"])])
    return vibe.open(folder, name="steady")


def container_starts(project):
    return {service["name"]: (service["status"], service["startedAt"], service["restartCount"])
            for service in project["services"]}


@pytest.mark.parametrize("program", ["vibe-supervisor", "containerd"])
def test_the_app_outlives_a_killed(vibe, app, program):
    before = container_starts(vibe.project("steady"))
    killed = vibe.kill(program)
    assert get(app["url"]) is not None or eventually(lambda: get(app["url"]), 5, "an answer")
    eventually(lambda: set(vibe.machine_processes(program)) - {killed}, what=f"a new {program}")
    eventually(lambda: vibe.json("machine", "status")["state"] == "ready", what="a ready machine")
    assert container_starts(vibe.project("steady")) == before
    assert get(app["url"]) == "front\n"


def test_the_app_outlives_a_killed_vibed(vibe, app):
    before = vibe.project("steady")
    vibe.kill_vibed()
    after = vibe.project("steady")  # starts vibed
    assert container_starts(after) == container_starts(before)
    assert after["url"] == before["url"]
    assert eventually(lambda: get(app["url"]), what="an answer through the new vibed") == "front\n"


def test_all_three_killed_at_once(vibe, app):
    before = container_starts(vibe.project("steady"))
    vibe.kill("containerd")
    vibe.kill("vibe-supervisor")
    vibe.kill_vibed()
    assert container_starts(vibe.project("steady")) == before
    assert eventually(lambda: get(app["url"]), what="an answer") == "front\n"


def test_a_service_that_dies_is_started_again(vibe, app):
    (pid,) = [pid for pid, words in vibe.machine_processes("probe").items() if "front" in words]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: vibe.service("steady", "web")["restartCount"] == 1, what="the restart")
    assert eventually(lambda: get(app["url"]), what="an answer") == "front\n"


def test_a_machine_that_was_stopped_brings_its_apps_back(vibe, app):
    vibe("machine", "stop")
    assert vibe.json("machine", "status")["state"] == "stopped"
    assert vibe.project("steady")["status"] == "stopped"
    assert get(app["url"]) is None
    vibe("machine", "start")
    eventually(lambda: vibe.project("steady")["status"] == "running", what="the app")
    assert eventually(lambda: get(app["url"]), what="an answer") == "front\n"
