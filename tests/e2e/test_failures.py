"""Each thing that goes wrong gives one clear error that names the service and the cause, and leaves the project so
that the next open or start can succeed."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from registry import Registry
from vibe_cli import IMAGES, Vibe, eventually, get, probe, read_until, write_app

WEB_PORT = [{"container": 8080}]


def recovers(vibe, folder, name):
    """The same project, with a manifest that is right, runs."""
    write_app(folder, [probe("web", ["serve", "8080", "well"], ports=WEB_PORT)])
    assert get(vibe.open(folder, name=name)["url"]) == "well\n"
    vibe("rm", name, "--yes")


def test_an_image_that_is_not_in_the_registry(vibe, registry, tmp_path):
    app = write_app(tmp_path / "app", [{"name": "web", "image": f"{registry.host}/vibe-examples/nothing:1"}])
    error = vibe.fails("open", app, "--yes", "--name", "no-image")
    assert "web" in error and "vibe-examples/nothing:1" in error and "not" in error
    recovers(vibe, app, "no-image")


def test_a_registry_that_is_down(vibe, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = write_app(tmp_path / "app", [{"name": "web", "image": f"localhost:{port}/vibe-examples/probe:latest"}])
    error = vibe.fails("open", app, "--yes", "--name", "no-registry")
    assert "web" in error and f"localhost:{port}" in error
    recovers(vibe, app, "no-registry")


def test_a_pull_from_a_registry_fetches_each_layer_once(vibe, registry, tmp_path):
    service = {"name": "web", "image": f"{registry.host}/vibe-examples/probe:latest",
               "command": ["serve", "8080", "pulled"], "ports": WEB_PORT}
    app = write_app(tmp_path / "app", [service, {**service, "name": "other"}], images=())
    opened = vibe.open(app, name="pulled")
    assert get(opened["url"]) == "pulled\n"
    second = vibe.open(app, name="pulled-again")
    assert get(second["url"]) == "pulled\n"
    layers = [digest for digest in registry.blobs() if registry.fetched(digest)]
    assert layers and all(registry.fetched(digest) <= 2 for digest in layers), registry.log.read_text()
    vibe("rm", "pulled", "--yes")
    vibe("rm", "pulled-again", "--yes")


def test_a_blob_whose_digest_does_not_match(vibe, tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="vibe-registry-"))
    registry = Registry(folder)
    try:
        registry.push(IMAGES / "probe", "vibe-examples/probe:latest")
        largest = max(registry.blobs().values(), key=lambda path: path.stat().st_size)
        with open(largest, "r+b") as blob:
            blob.seek(largest.stat().st_size // 2)
            byte = blob.read(1)
            blob.seek(-1, os.SEEK_CUR)
            blob.write(bytes([byte[0] ^ 1]))
        fresh = Vibe(tmp_path / "home")  # a machine that does not have the right blob yet
        try:
            app = write_app(tmp_path / "app", [{"name": "web", "image": f"{registry.host}/vibe-examples/probe:latest"}],
                            images=())
            error = fresh.fails("open", app, "--yes", "--name", "evil")
            assert "web" in error and "digest" in error
            recovers(fresh, app, "evil")
        finally:
            fresh.close()
    finally:
        registry.close()
        shutil.rmtree(folder)


def test_a_command_that_does_not_exist(vibe, tmp_path):
    app = write_app(tmp_path / "app", [{"name": "web", "image": "vibe-examples/probe:latest",
                                        "entrypoint": ["/no/such/program"]}])
    error = vibe.fails("open", app, "--yes", "--name", "no-command")
    assert "web" in error and "/no/such/program" in error and "command and entrypoint" in error
    assert vibe.service("no-command", "web")["status"] == "failed"
    recovers(vibe, app, "no-command")


def test_a_service_that_exits_at_once(vibe, tmp_path):
    app = write_app(tmp_path / "app", [
        probe("fine", ["serve", "9000"]),
        probe("web", ["exit", "3", "cannot read the configuration"], dependsOn=["fine"], ports=WEB_PORT)])
    error = vibe.fails("open", app, "--yes", "--name", "exits")
    assert "web" in error and "3" in error and "cannot read the configuration" in error
    assert vibe.service("exits", "web")["status"] == "failed"
    assert vibe.service("exits", "fine")["status"] == "stopped"
    error = vibe.fails("start", "exits")
    assert "cannot read the configuration" in error
    recovers(vibe, app, "exits")


def test_a_port_that_is_taken_on_the_host(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "well"], ports=WEB_PORT)])
    opened = vibe.open(app, name="taken")
    port = int(opened["url"].rsplit(":", 1)[1])
    vibe("stop", "taken")
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        error = vibe.fails("start", "taken")
        assert "web" in error and str(port) in error
    assert get(vibe.json("start", "taken")["url"]) == "well\n"
    vibe("rm", "taken", "--yes")


def test_a_dependency_cycle(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("a", dependsOn=["b"]), probe("b", dependsOn=["c"]),
                                       probe("c", dependsOn=["a"])])
    error = vibe.fails("open", app, "--yes", "--name", "cycle")
    assert "vibe.yaml:" in error and "a" in error and "cycle" in error
    assert vibe.project("cycle") is None
    recovers(vibe, app, "cycle")


def fill(folder):
    """Takes all the space of a folder's disk, to the last byte; returns the file to remove."""
    filler = folder / "filler"
    for block in ("1M", "4k", "1"):
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "oflag=append", "conv=notrunc", f"bs={block}", "status=none"],
                       check=False, stderr=subprocess.DEVNULL)
    return filler


def test_a_full_disk(tmp_path):
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["truncate", "-s", "1536M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        vibe = Vibe(mount / "home")
        try:
            kept = vibe.open(write_app(tmp_path / "kept", [
                probe("web", ["serve", "8080", "kept"], ports=WEB_PORT, stateVolumes=["data:/data"])],
                state={"volumes": [{"name": "data"}]}), name="kept")
            vibe("exec", "kept", "/probe", "write", "/data/kept", "the user's data")
            os.sync()
            app = write_app(tmp_path / "app", [probe("web", ["serve", "8080", "well"], ports=WEB_PORT)])
            filler = fill(mount)
            error = vibe.fails("open", app, "--yes", "--name", "full")
            assert "disk" in error or "space" in error, error

            # With the last byte gone, the file system in the machine's disk file fails as soon as it is written to.
            def failed():
                vibe.run("exec", "kept", "/probe", "bulk", "/data/bulk", "200", timeout=60)
                status = vibe.json("machine", "status")
                return status["state"] == "error" and status
            status = eventually(failed, timeout=120, what="the machine's end")
            assert "disk is full" in status["error"] and "by itself" in status["error"]
            assert "disk is full" in vibe.fails("open", app, "--yes", "--name", "full")
            filler.unlink()
            # Nobody does anything, and all is as before.
            eventually(lambda: get(f"{kept['url']}/read/data/kept") == "the user's data", timeout=60,
                       what="the app with its data after there was room again")
            assert vibe.json("machine", "status")["state"] == "ready"
            recovers(vibe, app, "full")
        finally:
            vibe.close()
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.mark.parametrize("command", [("start",), ("stop",), ("logs",), ("rm", "--yes"), ("restart",)])
def test_a_project_that_is_not_there(vibe, command):
    error = vibe.fails(command[0], "nobody", *command[1:])
    assert "nobody" in error and "vibe ps" in error


def test_a_service_that_listens_where_nobody_reaches_it(vibe, tmp_path):
    app = write_app(tmp_path / "app", [{
        "name": "web", "image": "vibe-examples/python:3.11", "ports": WEB_PORT,
        "command": ["python3", "-c", "import signal, socket, sys\n"
                    "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
                    "listener = socket.create_server(('127.0.0.1', 8080))\n"
                    "while True: signal.pause()"]}], images=("python",))
    with vibe.begin("open", app, "--yes", "--name", "hidden") as opening:
        read_until(opening, "waiting: port 8080 answers inside the service only: it listens on 127.0.0.1")
        vibe("rm", "hidden", "--yes")
        assert opening.wait(timeout=10) == 1


def test_a_healthcheck_that_does_not_pass(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080"], ports=WEB_PORT, healthcheck={
        "test": ["CMD", "/probe", "exit", "3", "not yet"], "interval": "100ms", "timeout": "1s", "retries": 1})])
    error = vibe.fails("open", app, "--yes", "--name", "unwell")
    assert 'its healthcheck "/probe exit 3 not yet" exits with 3' in error
    assert "vibe exec --service=web unwell -- /probe exit 3 'not yet'" in error, "it does not say how to find out more"
    assert "startPeriod" in error
    recovers(vibe, app, "unwell")


def test_a_service_that_does_not_get_ready_can_be_looked_into(vibe, tmp_path):
    # The check prints what it finds, as `curl -f` does: it must have somewhere to print to.
    app = write_app(tmp_path / "app", [probe("web", ["serve", "8080"], ports=WEB_PORT, healthcheck={
        "test": ["CMD", "/probe", "read", "/sign"], "interval": "1s", "timeout": "1s", "retries": 30})])
    with vibe.begin("open", app, "--yes", "--name", "shy") as opening:
        said = read_until(opening, "waiting: its healthcheck")
        vibe("exec", "-s", "web", "shy", "--", "/probe", "write", "/sign", "here")
        assert opening.wait(timeout=10) == 0, said + opening.stdout.read()
    vibe("rm", "shy", "--yes")


def test_a_service_that_takes_no_notice_of_a_stop(vibe, tmp_path):
    app = write_app(tmp_path / "app", [probe("deaf", ["stubborn", "1000"])])
    vibe.open(app, name="unmoved")
    said = vibe.run("stop", "unmoved", "--timeout", "3").stderr
    assert "deaf: stopping (it does not end when asked to, and is killed in 1 s)" in said, said
    vibe("rm", "unmoved", "--yes")
