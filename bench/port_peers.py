"""Peers that forward a port in user space, each beside ours on the same way: from a loopback address over the machine's
bridge into the container."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from guest_boot import compile_static, stand_in_image, with_data_disk
from vibe_cli import free_port

ROOTLESSPORT = ("/usr/lib/podman/rootlessport", "/usr/libexec/podman/rootlessport")


def await_port(port, process, command=()):
    """Until somebody listens; `command` goes before the check, to enter a namespace."""
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"a peer ended with {process.returncode}")
        check = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1).close()"
        if subprocess.run([*command, "/usr/bin/python3", "-c", check], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError("a peer does not listen")


class Socat:
    """One process for each connection. It has no listener and target in two networks, so it runs in the machine's, and so
    does its client."""
    name = "socat"

    def __init__(self, enter, address, port):
        self.enter, self.port = enter, 47001
        self.process = subprocess.Popen(
            [*enter, "socat", "-b", "262144", f"TCP-LISTEN:{self.port},bind=127.0.0.1,reuseaddr,fork,backlog=512",
             f"TCP:{address}:{port},nodelay"], stderr=subprocess.DEVNULL)
        await_port(self.port, self.process, enter)

    def close(self):
        self.process.terminate()
        self.process.wait()


class Bare:
    """The least that a forwarder can do, in the machine's network like socat: what it loses against direct access, the way
    itself costs."""
    name = "bare"

    def __init__(self, enter, address, port):
        self.enter, self.port = enter, 47002
        self.folder = tempfile.TemporaryDirectory(prefix="vibe-bare-")
        program = Path(self.folder.name) / "bare_forwarder"
        compile_static("bare_forwarder.c", program)
        self.process = subprocess.Popen([*enter, str(program), str(self.port), address, str(port)])
        await_port(self.port, self.process, enter)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Rootlessport:
    """Podman's forwarder: its child in the machine's network connects, and passes the connection to the parent, which
    listens on this computer and moves the bytes."""
    name = "rootlessport"

    def __init__(self, enter, address, port):
        program = next(path for path in ROOTLESSPORT if Path(path).exists())
        pid = enter[enter.index("-t") + 1]
        self.enter, self.port = [], free_port()
        self.folder = tempfile.mkdtemp(prefix="vibe-rootlessport-")
        ready, ready_end = os.pipe()
        exit_end, self.exit = os.pipe()
        config = {"Mappings": [{"host_ip": "127.0.0.1", "container_port": port, "host_port": self.port, "range": 1,
                                "protocol": "tcp"}],
                  "NetNSPath": f"/proc/{pid}/ns/net", "ExitFD": exit_end, "ReadyFD": ready_end, "TmpDir": self.folder,
                  "ChildIP": address, "ContainerID": "bench", "RootlessCNI": False, "SocketDir": self.folder}
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, pass_fds=(ready_end, exit_end),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process.stdin.write(json.dumps(config).encode())
        self.process.stdin.close()
        os.close(ready_end)
        os.close(exit_end)
        with os.fdopen(ready, "rb") as pipe:
            pipe.read(1)
        await_port(self.port, self.process)

    def close(self):
        os.close(self.exit)  # the end of this pipe is its end
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Hostfwd:
    """qemu's own forwarder, straight to the service: a guest of the same kernel that runs nothing else of ours but its
    first process, and no container."""
    name = "qemu's hostfwd"

    def __init__(self, folder, hypervisor, load, port):
        self.enter, self.port = [], free_port()
        image = stand_in_image(folder, "port_load_guest.c", vibe_logger=load)
        network = f"user,id=uplink,ipv6=off,hostfwd=tcp:127.0.0.1:{self.port}-:{port}"
        self.process = subprocess.Popen(
            [*with_data_disk(hypervisor, image, folder / "data.img"), "-netdev", network,
             "-device", "virtio-net-pci,netdev=uplink,romfile="], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        # libslirp accepts whatever the guest does: only an answer says that the service is there.
        for _ in range(60):
            if subprocess.run([load, "latency", "127.0.0.1", str(self.port), "1"], timeout=60, capture_output=True).returncode == 0:
                return
            time.sleep(1)
        self.close()
        raise RuntimeError("the guest behind hostfwd does not answer")

    def close(self):
        self.process.kill()
        self.process.wait()


def peers():
    """Those that this computer has."""
    found = [Bare]
    if shutil.which("socat"):
        found.append(Socat)
    if any(Path(path).exists() for path in ROOTLESSPORT):
        found.append(Rootlessport)
    return found
