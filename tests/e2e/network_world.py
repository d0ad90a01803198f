"""What the network's tests need around Vibe: a program that tries things from inside of services, servers on this
computer, and a server "on the internet" in a network namespace that this computer has a route to."""

import json
import os
import signal
import subprocess
from pathlib import Path

from vibe_cli import probe, write_app

SOURCE = Path(__file__).resolve().parent / "network_probe.c"
HOST4, PUBLIC4 = "203.0.113.1", "203.0.113.2"
HOST6, PUBLIC6 = "2001:db8:5::1", "2001:db8:5::2"
PUBLIC_PORT = 7443
SERVICE_PORT = 9000


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **more).stdout


def build_probe(folder):
    program = Path(folder) / "network_probe"
    # The C library warns of getaddrinfo in a static program; it reads /etc/hosts and asks name servers all the same.
    run("cc", "-static", "-O1", "-Wall", "-Wextra", "-o", program, SOURCE)
    return program


def write_probe_app(folder, services, program, **manifest):
    """An app whose services have the program at /app/network_probe."""
    folder = write_app(folder, services, **manifest)
    (folder / "network_probe").write_bytes(program.read_bytes())
    (folder / "network_probe").chmod(0o755)
    return folder


def serving(name, port=SERVICE_PORT, **more):
    return probe(name, ["serve", str(port)], entrypoint=["/app/network_probe"], **more)


class Server:
    """network_probe serve, in a network namespace (a file; None: this computer's)."""

    def __init__(self, program, port, namespace=None):
        enter = ["nsenter", f"--net={namespace}"] if namespace else []
        self.process = subprocess.Popen([*enter, str(program), "serve", str(port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "serving\n"

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stdout.close()


class Internet:
    """A namespace behind a cable from this computer, and a server there. Also gives this computer addresses that a
    machine finds when it boots."""

    def __init__(self, program):
        self.name = f"vibe-public-{os.getpid()}"
        cable = f"vpub{os.getpid() % 100000}"
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            for command in (f"addr add {HOST4}/24 dev {cable}", f"addr add {HOST6}/64 dev {cable} nodad",
                            f"link set {cable} up"):
                run("ip", *command.split())
            for command in (f"addr add {PUBLIC4}/24 dev eth0", f"addr add {PUBLIC6}/64 dev eth0 nodad",
                            "link set eth0 up", "link set lo up"):
                run("ip", "-n", self.name, *command.split())
            self.server = Server(program, PUBLIC_PORT, f"/run/netns/{self.name}")
        except BaseException:
            run("ip", "netns", "del", self.name)
            raise

    def close(self):
        self.server.close()
        run("ip", "netns", "del", self.name)  # the cable goes with it


class AddressMore:
    """This computer has one more address of its own, on its loopback interface, as routers do."""

    def __init__(self, address):
        self.words = [f"{address}/32", "dev", "lo"]
        run("ip", "addr", "add", *self.words)

    def close(self):
        run("ip", "addr", "del", *self.words)


def attempts(vibe, project, whats, service="web"):
    """The outcomes of several attempts, in one command."""
    out = vibe("exec", project, "-s", service, "--", "/app/network_probe", "try", *whats)
    return [json.loads(line) for line in out.splitlines()]


def attempt(vibe, project, what, service="web"):
    return attempts(vibe, project, [what], service)[0]


def addresses_of(vibe, project, service):
    """(IPv4, IPv6) of a service, as its own container knows them."""
    out = vibe("exec", project, "-s", service, "--", "/probe", "read", "/etc/hosts")
    found = [line.split()[0] for line in out.splitlines() if service in line.split()[1:]]
    return (next(address for address in found if ":" not in address), next(address for address in found if ":" in address))


def gateways_of(vibe, project):
    """The addresses of a project's bridge."""
    four, six = addresses_of(vibe, project, "web")
    return four.rsplit(".", 1)[0] + ".1", six.rsplit("::", 1)[0] + "::1"
