"""What the network's tests need around Vibe: a program that tries things from inside of services, servers on this
computer, and a server "on the internet" in a network namespace that this computer has a route to."""

import ipaddress
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from vibe_cli import eventually, probe, write_app

SOURCE = Path(__file__).resolve().parent / "network_probe.c"
HOST4, PUBLIC4 = "203.0.113.1", "203.0.113.2"
HOST6, PUBLIC6 = "2001:db8:5::1", "2001:db8:5::2"
PUBLIC_PORT = 7443
PING_RANGE = Path("/proc/sys/net/ipv4/ping_group_range")
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


def serving(name, port=SERVICE_PORT, says=None, **more):
    """A service that answers with what it `says`: its name, if not another."""
    return probe(name, ["serve", str(port), says or name], entrypoint=["/app/network_probe"], **more)


class Server:
    """network_probe serve, in a network namespace (a file; None: this computer's)."""

    def __init__(self, program, port, namespace=None, says="a server"):
        enter = ["in", str(namespace)] if namespace else []
        self.output = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen([str(program), *enter, "serve", str(port), says], stdout=self.output)
        eventually(lambda: self.said().startswith("serving\n"), what="the server")

    def said(self):
        return Path(self.output.name).read_text()

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.output.close()


class Internet:
    """A namespace behind a cable from this computer, and in it a server, and one in the place of a name server. Also gives this
    computer addresses that a machine finds when it boots, and lets its programs ping, as those that make an uplink do."""

    def __init__(self, program):
        self.name = f"vibe-public-{os.getpid()}"
        cable = f"vpub{os.getpid() % 100000}"
        run("ip", "netns", "add", self.name)
        self.servers, self.ping_range = [], PING_RANGE.read_text()
        try:
            PING_RANGE.write_text("0 2147483647")
            run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            for command in (f"addr add {HOST4}/24 dev {cable}", f"addr add {HOST6}/64 dev {cable} nodad",
                            f"link set {cable} up"):
                run("ip", *command.split())
            for command in (f"addr add {PUBLIC4}/24 dev eth0", f"addr add {PUBLIC6}/64 dev eth0 nodad",
                            "link set eth0 up", "link set lo up"):
                run("ip", "-n", self.name, *command.split())
            for port, says in ((PUBLIC_PORT, "the internet"), (53, "the name server")):
                self.servers.append(Server(program, port, f"/run/netns/{self.name}", says))
        except BaseException:
            self.close()
            raise

    def namespace(self):
        return f"/proc/{self.servers[0].process.pid}/ns/net"

    def heard(self, text):
        """How often the server heard it."""
        return self.servers[0].said().count(f"got {text} ")

    def close(self):
        for server in self.servers:
            server.close()
        PING_RANGE.write_text(self.ping_range)
        run("ip", "netns", "del", self.name)  # the cable goes with it


def start_where_the_name_server_is_public(vibe):
    """vibed and its machine see another /etc/resolv.conf than the rest of this computer."""
    with tempfile.NamedTemporaryFile("w") as resolv:
        resolv.write(f"nameserver {PUBLIC4}\n")
        resolv.flush()
        run("unshare", "--mount", "sh", "-c", 'mount --bind "$1" /etc/resolv.conf && exec "$2" machine start', "sh", resolv.name,
            vibe.programs / "vibe", env=vibe.environment, timeout=180)


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


class NativeMachine:
    """The native machine as this process sees it, with every privilege."""

    uplink4, uplinks_gateway6 = "10.0.2.100", "fd00::2"

    def __init__(self, vibe, program):
        self.vibe, self.program, self.heard = vibe, program, {}

    def namespace(self):
        return f"/proc/{self.vibe.machine_init()}/ns/net"

    def namespace_of(self, place):
        return str(self.vibe.inside(place.namespace))

    def run(self, *words):
        return run(self.program, *words)

    def start(self, name, *words):
        """Lets it run; ended(name) waits for its end, and close() ends it."""
        output = tempfile.NamedTemporaryFile()
        self.heard[name] = output, subprocess.Popen([str(self.program), *words], stdout=output)

    def said(self, name):
        return Path(self.heard[name][0].name).read_text()

    def ended(self, name):
        self.heard[name][1].wait(timeout=20)
        return self.said(name)

    def close(self):
        for output, process in self.heard.values():
            process.kill()
            process.wait()
            output.close()


class Guest:
    """A guest that was booted from killing_image's image with the program, through the volume `door` of a service."""

    uplink4, uplinks_gateway6 = "10.0.2.15", "fec0::2"

    def __init__(self, vibe, project, service):
        self.vibe, self.words, self.runs = vibe, ("exec", project, "-s", service, "--", "/probe"), 0

    def namespace(self):
        return "/proc/1/ns/net"

    def namespace_of(self, place):
        return place.namespace

    def run(self, *words):
        self.runs += 1
        self.start(f"run{self.runs}", *words)
        return self.ended(f"run{self.runs}")

    def start(self, name, *words):
        self.vibe(*self.words, "write", "/door/run", "\n".join([name, *map(str, words), "end", ""]))

    def said(self, name):
        return self.vibe.run(*self.words, "read", f"/door/{name}.new").stdout

    def ended(self, name):
        out = eventually(lambda: self.vibe.run(*self.words, "read", f"/door/{name}").stdout, what=f"the end of {name} in the guest")
        *said, end = out.splitlines(keepends=True)
        assert end == "ended with 0\n", out
        return "".join(said)

    def close(self):
        pass


class Place:
    """Where a service is, of which one address is known: the rest follows from that (docs/network.md)."""

    def __init__(self, addresses):
        self.addresses = addresses
        four = int(ipaddress.ip_address(addresses[0]))
        project, number = (four & 0x3FFFFF) >> 10, four & 0x3FF
        self.bridge, self.namespace = f"vibe-{project}", f"/run/netns/vibe-{project}-{number - 2}"
        self.hardware = "02:76:" + four.to_bytes(4, "big").hex(":")
        gateway4 = ipaddress.ip_address(four - number + 1)
        self.gateways = str(gateway4), addresses[1].rsplit("::", 1)[0] + "::1"
        self.gateways_hardware = "02:76:" + gateway4.packed.hex(":")
        words = gateway4.packed.hex()
        self.gateway_by_link = str(ipaddress.ip_address(f"fe80::76:{words[:2]}ff:fe{words[2:4]}:{words[4:]}"))
