"""How services start, stop and start again."""

import subprocess
import time

import pytest

from vibe_cli import eventually, get, probe, read_until, write_app

WEB_PORT = [{"container": 8080}]


def states(vibe, name):
    return {service["name"]: service["status"] for service in vibe.project(name)["services"]}


def test_stop_forces_what_does_not_listen(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("deaf", ["stubborn", "1000"])])
    vibe.open(app, name="deaf")
    started = time.monotonic()
    vibe("stop", "deaf", "--timeout", "1")
    assert 1 <= time.monotonic() - started < 10
    assert states(vibe, "deaf") == {"deaf": "stopped"}
    vibe("rm", "deaf", "--yes")


def test_services_stop_in_reverse_order(vibe, tmp_path):
    app = write_app(tmp_path / "app", [
        probe("first", ["serve", "9000"]),
        probe("second", ["serve", "9001"], dependsOn=["first"]),
        probe("third", ["serve", "9002"], dependsOn=["second"])])
    vibe.open(app, name="order")
    progress = vibe.run("stop", "order").stderr
    order = [line.split(":")[0] for line in progress.splitlines() if line.endswith(": stopping")]
    assert [name for name in order if name != "project"] == ["third", "second", "first"], progress
    vibe("rm", "order", "--yes")


def test_a_start_that_hangs_says_why_and_stop_ends_it(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["sleep", "1000"], ports=WEB_PORT)])
    with vibe.begin("open", app, "--yes", "--name", "hangs") as opening:
        eventually(lambda: vibe.project("hangs") and states(vibe, "hangs").get("web") == "starting",
                   what="the start")
        read_until(opening, "web: waiting: port 8080 does not answer")
        started = time.monotonic()
        vibe("stop", "hangs")
        assert time.monotonic() - started < 15
        assert opening.wait(timeout=10) == 1, "the start that was ended said that it went well"
    assert states(vibe, "hangs") == {"web": "stopped"}
    vibe("rm", "hangs", "--yes")


def test_stopping_the_machine_ends_a_start_that_hangs(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["sleep", "1000"], ports=WEB_PORT)])
    with vibe.begin("open", app, "--yes", "--name", "hangs") as opening:
        eventually(lambda: vibe.project("hangs") and states(vibe, "hangs").get("web") == "starting",
                   what="the start")
        started = time.monotonic()
        vibe("machine", "restart")
        assert time.monotonic() - started < 15
        assert opening.wait(timeout=10) == 1
        assert "it was ended by `vibe machine restart`" in opening.stdout.read()
    assert states(vibe, "hangs") == {"web": "stopped"}
    vibe("rm", "hangs", "--yes")


@pytest.mark.parametrize("restart, code, ends_as", [("no", 3, "failed"), ("on-failure", 0, "stopped")])
def test_a_service_that_ends_and_is_not_started_again(vibe, tmp_path, restart, code, ends_as):
    name = f"ends-{restart}"
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "well"], ports=WEB_PORT),
                                       probe("job", ["sleep", "3"] if code == 0 else ["serve", "9000"],
                                             restart=restart)])
    vibe.open(app, name=name)
    if code != 0:
        (pid,) = [pid for pid, words in vibe.machine_processes("probe").items() if words.endswith("serve 9000")]
        subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: states(vibe, name)["job"] == ends_as, what="the end of the job")
    assert vibe.service(name, "job")["restartCount"] == 0
    vibe("rm", name, "--yes")


def test_a_service_that_is_always_started_again(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["sleep", "3"], restart="always")])
    vibe.open(app, name="always")
    eventually(lambda: vibe.service("always", "web")["restartCount"] >= 1, what="the restart")
    vibe("rm", "always", "--yes")


def test_a_health_check_that_never_passes(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080"], ports=WEB_PORT, healthcheck={
        "test": ["CMD", "/probe", "exit", "4"], "interval": "200ms", "timeout": "2s", "retries": 3})])
    error = vibe.fails("open", app, "--yes", "--name", "sick")
    assert "web" in error and "health" in error and "4" in error
    assert states(vibe, "sick") == {"web": "failed"}
    vibe("rm", "sick", "--yes")


def test_every_name_that_the_manifest_allows(vibe, tmp_path):
    names = ["a--b", "-a", "a-", "plain"]
    app = write_app(tmp_path / "app", [probe(name, ["serve", str(9000 + index), name])
                                       for index, name in enumerate(names)])
    vibe.open(app, name="names")
    assert states(vibe, "names") == {name: "running" for name in names}
    for index, name in enumerate(names):
        assert vibe("exec", "names", f"--service={name}", "--", "/probe", "connect", name, str(9000 + index))
        assert vibe("logs", "names", f"--service={name}")
    vibe("rm", "names", "--yes")


def test_changed_files_reach_the_app_and_the_old_ones_go(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080"], ports=WEB_PORT)])
    packages = vibe.inside("/run/vibe/data/packages")
    before = None
    for version in ("one", "two", "three"):
        (app / "page.txt").write_text(version)
        url = vibe.open(app, name="changed")["url"]
        assert get(f"{url}/read/app/page.txt") == version
        count = len(list(packages.iterdir()))
        assert before in (None, count), "the files of the version before are still there"
        before = count
    vibe("rm", "changed", "--yes")


def test_a_required_secret_is_missed_before_anything_is_copied(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe()], secrets=[{"name": "API_KEY", "required": True}])
    result = vibe.run("open", app, "--yes", "--name", "secret")
    assert result.returncode == 1 and "API_KEY" in result.stderr
    assert "copying" not in result.stderr
    assert vibe.project("secret") is None, "an app that was refused is listed"


def test_logs_do_not_start_a_stopped_machine(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe()])
    vibe.open(app, name="quiet")
    vibe("machine", "stop")
    assert "vibe machine start" in vibe.fails("logs", "quiet")
    assert vibe.json("machine", "status")["state"] == "stopped"
    vibe("rm", "quiet", "--yes")
