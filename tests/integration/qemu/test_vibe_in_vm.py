"""An app in the virtual machine, as a user has it: opened, cut off from power, and back with its data."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "e2e"))
from vibe_cli import BIN, Vibe, eventually, get, probe, write_app  # noqa: E402


KEPT = "the user's data"


def find(folder, program):
    """The pid of a program that has the folder in its command line."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder) in (entry / "cmdline").read_text() and program in os.readlink(entry / "exe"):
                return int(entry.name)
        except OSError:
            continue
    return None


@pytest.fixture
def vibe():
    home = Path(tempfile.mkdtemp(prefix="vibe-vm-"))
    cli = Vibe(home / "home")
    cli.environment["VIBE_MACHINE"] = "qemu"
    cli.environment["VIBE_MACHINE_MEMORY"] = "1GiB"
    yield cli
    cli.close()
    shutil.rmtree(home)


def test_an_app_survives_a_power_cut_of_the_machine_and_the_death_of_vibed(vibe, tmp_path):
    started = time.monotonic()
    app = write_app(tmp_path / "app", [probe(args=("serve", "8080", "hello from the machine"), stateVolumes=["data:/data"], ports=[{"container": 8080}]),
                                       {"name": "load", "image": "vibe-examples/probe:latest", "entrypoint": ["/app/port-load"],
                                        "command": ["serve", "9000"],
                                        "ports": [{"container": 9000}, {"container": 9000, "protocol": "udp"}]}],
                    state={"volumes": [{"name": "data"}]})
    shutil.copy2(BIN / "port-load", app / "port-load")
    project = vibe.open(app)
    print(f"\nfrom nothing to an open app: {time.monotonic() - started:.1f} s")
    assert get(project["url"]) == "hello from the machine\n"
    machine = vibe.json("machine", "status")
    assert machine["backend"] == "qemu" and machine["state"] == "ready"
    assert "VIBE_MACHINE" in machine["reason"]
    assert machine["disk"]["totalBytes"] > 60 << 30
    vibe("exec", "app", "-s", "web", "/probe", "write", "/data/kept", "the user's data")
    assert get(project["url"] + "/read/data/kept") == KEPT

    # Both protocols of the other service (bench/port_load.h).
    (load,) = [service for service in project["services"] if service["name"] == "load"]
    ports = {port["protocol"]: port["hostPort"] for port in load["ports"]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", ports["udp"]))
        for datagram in (b"question", b"", bytes(range(256)) * 100):
            client.send(datagram)
            assert client.recv(65_536) == datagram
    with socket.create_connection(("127.0.0.1", ports["tcp"]), timeout=20) as client:
        client.sendall(b"e" + b"x" * 30_000)
        answer = b""
        while len(answer) < 30_000 and (piece := client.recv(30_000)):
            answer += piece
        assert answer == b"x" * 30_000

    # vibed dies: the machine and the app do not notice.
    qemu = find(vibe.home, "qemu-system")
    vibe.kill_vibed()
    assert vibe.project("app")["status"] == "running"
    assert find(vibe.home, "qemu-system") == qemu
    eventually(lambda: get(project["url"]), what="the app's address after vibed's death")

    # Power cut: vibed brings the machine back, and the machine its projects.
    os.kill(qemu, signal.SIGKILL)
    killed = time.monotonic()
    eventually(lambda: get(project["url"] + "/read/data/kept") == KEPT, timeout=120, what="the app with its data after the power cut")
    print(f"from the power cut to the app's answer: {time.monotonic() - killed:.1f} s")
    assert vibe.json("machine", "status")["recoveries"] == 1

    stopped = time.monotonic()
    assert vibe.json("machine", "stop")["state"] == "stopped"
    print(f"stopped in {time.monotonic() - stopped:.1f} s")
    assert find(vibe.home, "qemu-system") is None and find(vibe.home, "vibe-qemu-keeper") is None
