"""The tables of docs/network.md, and what tries their cells: in the native machine (test_network_matrix.py) and in a virtual
machine (test_network_qemu.py)."""

import json
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from network_world import (HOST4, HOST6, PUBLIC4, PUBLIC6, PUBLIC_PORT, SERVICE_PORT, Internet, Place, Server, addresses_of,
                           attempts, run, serving, start_where_the_name_server_is_public, write_probe_app)
from vibe_cli import REPOSITORY, eventually

COLUMNS = [("tcp", 4), ("udp", 4), ("icmp", 4), ("tcp", 6), ("udp", 6), ("icmp", 6)]
HOST_PORT, MACHINE_PORT = 7644, 7645
GATEWAY4, NAMESERVER4 = "10.0.2.2", "10.0.2.3"
PROJECT_OF = {"refused": "one", "granted": "online"}
FIRST_NUMBER, LAST_NUMBER = 20000, 29999
SPOOFED = ", as another"


def table():
    """(target, network) to the six cells, as the documentation has them."""
    rows = {}
    for line in (REPOSITORY / "docs" / "network.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[1] in ("either", "refused", "granted"):
            for network in ("refused", "granted") if cells[1] == "either" else (cells[1],):
                assert (cells[0], network) not in rows, f"two rows for {cells[0]}, {network}"
                rows[cells[0], network] = cells[2:]
    return rows


def spoofed_rows():
    return {key: cells for key, cells in table().items() if key[0].endswith(SPOOFED)}


def plain_rows():
    return {key: cells for key, cells in table().items() if not key[0].endswith(SPOOFED)}


class World:
    """Three projects: `one` without the internet, `online` with it, `other` to be aimed at; servers in the machine, on this
    computer, and on the internet. Each says who it is."""

    def __init__(self, vibe, folder, program, machine, stack, at_once_ms=500):
        self.vibe, self.program, self.at_once_ms = vibe, program, at_once_ms
        self.internet = stack.enter_context(closing(Internet(program)))
        stack.enter_context(closing(Server(program, HOST_PORT, says="this computer")))
        start_where_the_name_server_is_public(vibe)
        ports = [{"container": 8080}, {"container": 8080, "protocol": "udp"}]
        for name in ("one", "online", "other"):
            security = {"security": {"network": True}} if name == "online" else {}
            services = [serving("back", says=f"{name}'s back"), *([serving("peer")] if name in PROJECT_OF.values() else []),
                        serving("web", 8080, says=f"{name}'s web", ports=ports, stateVolumes=["door:/door"])]
            vibe.open(write_probe_app(folder / name, services, program, state={"volumes": [{"name": "door"}]}, **security),
                      name=name)
        self.places = {name: {service["name"]: Place(addresses_of(vibe, name, service["name"]))
                              for service in vibe.project(name)["services"]} for name in ("one", "online", "other")}
        self.machine = stack.enter_context(closing(machine(vibe, program)))
        found = self.machine.run("in", self.machine.namespace(), "listening")
        self.listening = sorted({(line.split()[0], int(line.split()[1])) for line in found.splitlines()}
                                | {("tcp", MACHINE_PORT), ("udp", MACHINE_PORT)})
        self.machine.start("machine", "in", self.machine.namespace(), "serve", str(MACHINE_PORT), "the machine")
        eventually(lambda: "serving" in self.machine.said("machine"), what="the machine's server")
        # A service's kernel lets nobody ping; here it is the firewall that is to be asked.
        for project in PROJECT_OF.values():
            self.machine.run("in", self.machine.namespace_of(self.places[project]["web"]), "allow_ping")

    def published(self, protocol):
        ports = self.vibe.service("other", "web")["ports"]
        return next(port["hostPort"] for port in ports if port["protocol"] == protocol)

    def aims(self, target, network):
        """For each column what is tried; nothing where there is no such address."""
        own, other = self.places[PROJECT_OF[network]]["web"], self.places["other"]["back"]

        def at(four, six, port, protocols=("tcp", "udp", "icmp")):
            cells = []
            for protocol, version in COLUMNS:
                number = port(protocol) if callable(port) and protocol != "icmp" else port
                addresses = [address for address in (four if version == 4 else six) if address and protocol in protocols]
                cells.append([f"{protocol},{address},{0 if protocol == 'icmp' else number}" for address in addresses])
            return cells

        def every_port():
            return [[f"{protocol},{address},{port}" for port in [port for kind, port in self.listening if kind == protocol]
                     for address in ((own.gateways[0], self.machine.uplink4) if version == 4
                                     else own.gateways[1:]) if protocol != "icmp"]
                    for protocol, version in COLUMNS]

        both = ("tcp", "udp")
        uplink6 = self.machine.uplinks_gateway6
        return {
            "a service of its project": lambda: at(*zip(self.places[PROJECT_OF[network]]["back"].addresses), SERVICE_PORT),
            "the machine, at its project's gateway": lambda: at(*zip(own.gateways), MACHINE_PORT),
            "the machine, at the uplink's own address": lambda: at([self.machine.uplink4], [], MACHINE_PORT),
            "the machine, by link (`169.254.1.1`, `fe80::…%eth0`)":
                lambda: at(["169.254.1.1"], [f"{own.gateway_by_link}%eth0"], MACHINE_PORT),
            "every port that the machine listens on, at gateway and uplink": every_port,
            "a service of another project": lambda: at(*zip(other.addresses), SERVICE_PORT),
            "another project's gateway": lambda: at(*zip(other.gateways), MACHINE_PORT),
            "another project's published port, at either gateway":
                lambda: at([own.gateways[0], other.gateways[0]], [own.gateways[1], other.gateways[1]], self.published, both),
            "another project's published port, at an address of this computer":
                lambda: at([HOST4], [HOST6], self.published, both),
            "another project's published port, at this computer's loopback (`127.0.0.1`, `10.0.2.2`, `::1`)":
                lambda: at(["127.0.0.1", GATEWAY4], ["::1", uplink6], self.published, both),
            "this computer's loopback, through `10.0.2.2`": lambda: at([GATEWAY4], [uplink6], HOST_PORT),
            "this computer, at an address of its own": lambda: at([HOST4], [HOST6], HOST_PORT),
            "cloud metadata (`169.254.169.254`, `fd00:ec2::254`)": lambda: at(["169.254.169.254"], ["fd00:ec2::254"], 80),
            "the name server (`10.0.2.3`, port 53)": lambda: at([NAMESERVER4], [uplink6[:-1] + "3"], 53),
            "a server on the internet": lambda: at([PUBLIC4], [PUBLIC6], PUBLIC_PORT),
        }[target]()

    def answer(self, target, network, protocol):
        """What only the right one says."""
        if protocol == "icmp":
            return "echo"
        name = {"a service of its project": f"{PROJECT_OF[network]}'s back", "a server on the internet": "the internet",
                "the name server (`10.0.2.3`, port 53)": "the name server"}[target]
        return f"hello from {name}" if protocol == "tcp" else f"{name} heard ping"

    def verdict(self, outcome):
        """The word that the table has for it, or what is wrong with it."""
        if outcome["outcome"] == "open":
            return "yes"
        if outcome["outcome"] == "refused":
            return "no" if outcome["ms"] < self.at_once_ms else "late" if outcome["ms"] < 2000 else "too late"
        return outcome["outcome"]

    def wrong(self, keys):
        """What is not as the rows say; of one `network`, in one command."""
        (network,) = {network for _, network in keys}
        tried = []
        for target, _ in keys:
            cells, aims = table()[target, network], self.aims(target, network)
            for cell, cells_aims, column in zip(cells, aims, COLUMNS):
                assert (cell == "–") == (not cells_aims), f"{target}: {column} is {cell}, and the test has {cells_aims}"
                tried += [(target, cell, aim) for aim in cells_aims]
        wrong = []
        outcomes = attempts(self.vibe, PROJECT_OF[network], [aim for _, _, aim in tried])
        assert len(outcomes) == len(tried)
        for (target, cell, aim), outcome in zip(tried, outcomes):
            protocol = aim.split(",")[0]
            good = self.verdict(outcome) in ((cell, "no") if cell == "late" else (cell,))
            if not good or (cell == "yes" and outcome["answer"].strip() != self.answer(target, network, protocol)):
                wrong.append((target, cell, outcome))
        return wrong

    def silent_servers(self):
        """Those of the servers that nobody may reach which do not answer those who may. A refusal proves nothing where nobody
        listens."""
        both = ("tcp", "udp")
        own, other = self.places["one"]["web"], self.places["other"]["back"]
        inside = [f"{protocol},{address},{MACHINE_PORT}" for protocol in both for address in (*own.gateways, self.machine.uplink4)]
        inside += [f"{protocol},{address},{SERVICE_PORT}" for protocol in both for address in other.addresses]
        inside += [f"{protocol},{address},{HOST_PORT}" for protocol in both for address in (GATEWAY4, HOST4)]
        outside = [f"{protocol},{address},{HOST_PORT}" for protocol in both for address in (HOST4, HOST6)]
        outside += [f"{protocol},{PUBLIC6},{PUBLIC_PORT}" for protocol in both]
        published = [f"{protocol},{address},{self.published(protocol)}" for protocol in both for address in ("127.0.0.1", "::1")]
        published_inside = [f"{protocol},{GATEWAY4},{self.published(protocol)}" for protocol in both]
        out = self.machine.run("in", self.machine.namespace(), "try", *inside, *published_inside)
        out += run(self.program, "try", *outside, *published)
        outcomes = [json.loads(line) for line in out.splitlines()]
        assert len(outcomes) == len(inside + outside + published + published_inside)
        return [outcome for outcome in outcomes
                if outcome["outcome"] != "open" or not any(name in outcome["answer"] for name in (
                    "the machine", "other's back", "this computer", "the internet", "other's web"))]


class Packet(NamedTuple):
    project: str
    target: str
    source: str
    column: tuple
    by_program: bool  # else a frame of the test's
    words: str
    hardware: str  # to whom


class Spoofing:
    """A service of each kind of project sends as others to whomever it could want to, and as itself. Each packet has a number of
    its own and is sent twice: by a program in the service, and by the test, in frames of its own making."""

    def __init__(self, world):
        self.world, self.number = world, FIRST_NUMBER
        self.packets = {}  # number: Packet
        self.outcomes = {}  # number: what the program in the service was told
        self.heard = {}  # number: where it was

    def sources(self, project):
        places = self.world.places
        return {"itself": places[project]["web"].addresses, "its neighbour": places[project]["peer"].addresses,
                "a service of another project": places["other"]["web"].addresses, "the gateway": places[project]["web"].gateways,
                "another project's gateway": places["other"]["web"].gateways, "this computer": (HOST4, HOST6),
                "the internet": ("198.51.100.9", "2001:db8:9::9"), "nobody": ("127.0.0.1", "::1")}

    def targets(self, project):
        places = self.world.places
        own, back = places[project]["web"], places[project]["back"]
        return {"a service of its project": (back.addresses, back.hardware),
                "the machine, at its project's gateway": (own.gateways, own.gateways_hardware),
                "a service of another project": (places["other"]["back"].addresses, own.gateways_hardware),
                "a server on the internet": ((PUBLIC4, PUBLIC6), own.gateways_hardware)}

    def plan(self, project):
        for target, (to, hardware) in self.targets(project).items():
            for source, addresses in self.sources(project).items():
                for column in COLUMNS:
                    for by_program in (True, False):
                        protocol, six = column[0], column[1] == 6
                        words = f"{protocol},{addresses[six]},{to[six]},{self.number}"
                        self.packets[self.number] = Packet(project, target, source, column, by_program, words, hardware)
                        self.number += 1
        assert self.number < LAST_NUMBER

    def send(self):
        machine, places = self.world.machine, self.world.places
        backs = {f"{project}'s back": machine.namespace_of(places[project]["back"]) for project in places}
        machine.start("heard", "hear", machine.namespace(), *backs.values())
        with tempfile.NamedTemporaryFile() as public:
            process = subprocess.Popen([str(self.world.program), "hear", self.world.internet.namespace()], stdout=public)
            try:
                eventually(lambda: "hearing" in machine.said("heard") and "hearing" in Path(public.name).read_text(),
                           what="the ears")
                for project in PROJECT_OF.values():
                    self.plan(project)
                    self.send_as(project)
                # The last one, as itself to a neighbour.
                web, back = places["one"]["web"], places["one"]["back"]
                machine.run("in", machine.namespace_of(web), "forge", back.hardware,
                            f"udp,{web.addresses[0]},{back.addresses[0]},{LAST_NUMBER}")
                inside = [json.loads(line) for line in machine.ended("heard").splitlines()[1:]]
                outside = [json.loads(line) for line in Path(public.name).read_text().splitlines()[1:]]
            finally:
                process.kill()
                process.wait()
        for packet in inside:
            where = [packet["interface"], *backs][packet["where"]]
            self.heard.setdefault(packet["number"], set()).add(where)
        for packet in outside:
            self.heard.setdefault(packet["number"], set()).add("the internet")

    def send_as(self, project):
        machine, web = self.world.machine, self.world.places[project]["web"]
        mine = {number: packet for number, packet in self.packets.items() if packet.project == project}
        by_program = {number: f"as-{packet.words}" for number, packet in mine.items() if packet.by_program}
        outcomes = attempts(self.world.vibe, project, by_program.values())
        self.outcomes.update(zip(by_program, (outcome["outcome"] for outcome in outcomes)))
        for hardware in sorted({packet.hardware for packet in mine.values()}):
            machine.run("in", machine.namespace_of(web), "forge", hardware,
                        *[packet.words for packet in mine.values() if not packet.by_program and packet.hardware == hardware])

    def wrong(self):
        """The packets that arrived and should not, or did not and should."""
        rows, wrong = spoofed_rows(), []
        network_of = {project: network for network, project in PROJECT_OF.items()}
        for number, packet in self.packets.items():
            heard, outcome = self.heard.get(number, set()), self.outcomes.get(number)
            left = any(interface.startswith("veth") for interface in heard)
            arrived = {interface for interface in heard if not interface.startswith("veth")}
            own_bridge = self.world.places[packet.project]["web"].bridge
            if packet.source == "itself":
                # What shows that the others would have been heard.
                expected = {f"{packet.project}'s back" if packet.target == "a service of its project" else own_bridge}
                if (packet.target, packet.project, packet.column[1]) == ("a server on the internet", PROJECT_OF["granted"], 4):
                    expected.add("the internet")
                good = left and arrived == expected
            else:
                cell = rows[packet.target + SPOOFED, network_of[packet.project]][COLUMNS.index(packet.column)]
                assert cell == "dropped", f"nothing else is looked for: {cell}"
                # A program may send from a foreign address of IPv6, and of IPv4 not.
                good = not arrived and left == (not packet.by_program or outcome == "sent")
                good = good and (not packet.by_program or packet.column[1] == 6 or outcome == "forbidden")
            if not good:
                wrong.append((number, packet, outcome, heard))
        by_programs = [number for number, packet in self.packets.items() if packet.by_program and packet.source != "itself"]
        assert "sent" in {self.outcomes[number] for number in by_programs}, "no program could try"
        return wrong
