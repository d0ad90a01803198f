"""Who reaches whom: every cell of the table in docs/network.md, tried from inside of services."""

import re
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from network_world import (HOST4, HOST6, PUBLIC4, PUBLIC6, PUBLIC_PORT, SERVICE_PORT, Internet, Server, addresses_of,
                           attempts, gateways_of, run, serving, write_probe_app)
from vibe_cli import REPOSITORY

COLUMNS = [("tcp", 4), ("udp", 4), ("icmp", 4), ("tcp", 6), ("udp", 6), ("icmp", 6)]
AT_ONCE_MS = 500
HOST_PORT, MACHINE_PORT = 7644, 7645
UPLINK4, GATEWAY4, NAMESERVER4 = "10.0.2.100", "10.0.2.2", "10.0.2.3"


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


class World:
    """Three projects: `one` without the internet, `online` with it, `other` to be aimed at; servers in the machine, on this
    computer, and on the internet."""

    def __init__(self, vibe, folder, program, stack):
        self.vibe, self.program = vibe, program
        stack.enter_context(closing(Internet(program)))
        stack.enter_context(closing(Server(program, HOST_PORT)))
        services = [serving("back"), serving("web", 8080, ports=[{"container": 8080}])]
        for name in ("one", "online", "other"):
            security = {"security": {"network": True}} if name == "online" else {}
            vibe.open(write_probe_app(folder / name, services, program, **security), name=name)
        self.back = {name: addresses_of(vibe, name, "back") for name in ("one", "online", "other")}
        self.gateways = {name: gateways_of(vibe, name) for name in self.back}
        self.machine = f"/proc/{vibe.machine_init()}/ns/net"
        self.listening = self.machines_ports()
        stack.enter_context(closing(Server(program, MACHINE_PORT, self.machine)))
        self.project_of = {"refused": "one", "granted": "online"}
        # A service's kernel lets nobody ping; here it is the firewall that is to be asked.
        for project in self.project_of.values():
            index = self.bridge(project).removeprefix("vibe-")
            namespace = vibe.inside(f"/run/netns/vibe-{index}-1")
            run("nsenter", f"--net={namespace}", "sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")

    def bridge(self, project):
        gateway = self.gateways[project][0]
        out = run("nsenter", f"--net={self.machine}", "ip", "-o", "-4", "addr")
        return next(line.split()[1] for line in out.splitlines() if f" {gateway}/" in line)

    def link_local(self, project):
        out = run("nsenter", f"--net={self.machine}", "ip", "-o", "-6", "addr", "show", "dev", self.bridge(project))
        return re.search(r"inet6 (fe80:\S+)/", out).group(1)

    def machines_ports(self):
        """(protocol, port) of every socket that listens in the machine's own network namespace."""
        found = set()
        for protocol, state in (("tcp", "0A"), ("udp", "07")):
            for version in ("", "6"):
                lines = Path(f"/proc/{self.vibe.machine_init()}/net/{protocol}{version}").read_text().splitlines()[1:]
                found |= {(protocol, int(line.split()[1].rsplit(":", 1)[1], 16)) for line in lines if line.split()[3] == state}
        return found

    def aims(self, target, network):
        """For each column what is tried; None where there is no such address."""
        project = self.project_of[network]

        def at(four, six, port, protocols=("tcp", "udp", "icmp")):
            return [f"{protocol},{four if version == 4 else six},{port}"
                    if (four if version == 4 else six) and protocol in protocols else None for protocol, version in COLUMNS]

        return {
            "a service of its project": lambda: at(*self.back[project], SERVICE_PORT),
            "the machine, at its project's gateway": lambda: at(*self.gateways[project], MACHINE_PORT),
            "the machine, at the uplink's own address": lambda: at(UPLINK4, None, MACHINE_PORT),
            "the machine, by link (`169.254.1.1`, `fe80::…%eth0`)":
                lambda: at("169.254.1.1", f"{self.link_local(project)}%eth0", MACHINE_PORT),
            "a service of another project": lambda: at(*self.back["other"], SERVICE_PORT),
            "another project's gateway": lambda: at(*self.gateways["other"], MACHINE_PORT),
            "another project's published port, through `10.0.2.2`":
                lambda: at(GATEWAY4, None, self.vibe.service("other", "web")["ports"][0]["hostPort"], ("tcp",)),
            "this computer's loopback, through `10.0.2.2`": lambda: at(GATEWAY4, None, HOST_PORT),
            "this computer, at an address of its own": lambda: at(HOST4, HOST6, HOST_PORT),
            "cloud metadata (`169.254.169.254`, `fd00:ec2::254`)": lambda: at("169.254.169.254", "fd00:ec2::254", 80),
            "the name server (`10.0.2.3`, port 53)": lambda: at(NAMESERVER4, None, 53),
            "a server on the internet": lambda: at(PUBLIC4, PUBLIC6, PUBLIC_PORT),
        }[target]()


@pytest.fixture(scope="module")
def world(vibe, tmp_path_factory, network_probe):
    with ExitStack() as stack:
        yield World(vibe, tmp_path_factory.mktemp("matrix"), network_probe, stack)


def verdict(outcome):
    """The word that the table has for it, or what is wrong with it."""
    if outcome["outcome"] == "open":
        return "yes"
    if outcome["outcome"] == "refused":
        return "no" if outcome["ms"] < AT_ONCE_MS else "late" if outcome["ms"] < 1400 else "too late"
    return outcome["outcome"]


def matches(cell, outcome):
    found = verdict(outcome)
    # Whether and when there is an answer is for those beyond to decide. The firewall's own refusal of what is not TCP is
    # another error.
    beyond = found in ("yes", "silence") or (found == "no" and outcome["error"] == "Connection refused"
                                             and not outcome["what"].startswith("tcp"))
    return beyond if cell == "passed" else found == cell


PORTS = "every port that the machine listens on, at either"


@pytest.mark.parametrize("target, network", [key for key in table() if key[0] != PORTS])
def test_a_row_of_the_table(world, target, network):
    cells, aims = table()[target, network], world.aims(target, network)
    outcomes = iter(attempts(world.vibe, world.project_of[network], [aim for aim in aims if aim]))
    wrong = []
    for cell, aim, column in zip(cells, aims, COLUMNS):
        assert (cell == "–") == (aim is None), f"{target}: {column} is {cell} in the table, and the test has {aim}"
        if aim:
            outcome = next(outcomes)
            if not matches(cell, outcome):
                wrong.append((column, cell, outcome))
    assert not wrong


@pytest.mark.parametrize("network", ["refused", "granted"])
def test_every_port_that_the_machine_listens_on_is_out_of_reach(world, network):
    assert table()[PORTS, network] == ["no", "no", "–", "no", "no", "–"]
    ports = world.listening | {("tcp", MACHINE_PORT), ("udp", MACHINE_PORT)}
    aims = [f"{protocol},{address},{port}" for protocol, port in sorted(ports)
            for address in (*world.gateways[world.project_of[network]], UPLINK4)]
    wrong = [outcome for outcome in attempts(world.vibe, world.project_of[network], aims) if verdict(outcome) != "no"]
    assert not wrong


def test_the_table_has_no_row_that_is_not_tried():
    assert {network for _, network in table()} == {"refused", "granted"}
    assert len(table()) == 26, "a row came or went: see that it is meant"


def test_the_servers_that_nobody_reaches_are_there(world):
    """A refusal proves nothing where nobody listens."""
    enter = ["nsenter", f"--net={world.machine}", str(world.program), "try"]
    out = run(*enter, *[f"{protocol},{address},{MACHINE_PORT}" for protocol in ("tcp", "udp")
                        for address in (*world.gateways["one"], UPLINK4)])
    out += run(*enter, f"tcp,{GATEWAY4},{HOST_PORT}", f"udp,{GATEWAY4},{HOST_PORT}", f"tcp,{PUBLIC4},{PUBLIC_PORT}")
    out += run(world.program, "try", f"tcp,{HOST4},{HOST_PORT}", f"tcp,{HOST6},{HOST_PORT}", f"udp,{PUBLIC6},{PUBLIC_PORT}")
    out += run(*enter, *[f"{protocol},{address},{SERVICE_PORT}" for protocol in ("tcp", "udp") for address in world.back["other"]])
    assert out.count('"outcome": "open"') == len(out.splitlines()), out


def test_a_service_has_no_sockets_that_make_packets(world):
    whats = ["raw4", "raw6", "packet", "address", "transparent"]
    for outcome in attempts(world.vibe, "online", whats):
        assert outcome["outcome"] == "forbidden", outcome


def test_no_service_may_ping_by_itself(world):
    """Of a project whose kernel nobody told otherwise."""
    four, six = world.back["other"]
    for outcome in attempts(world.vibe, "other", [f"icmp,{four},0", f"icmp,{six},0"]):
        assert outcome["outcome"] == "forbidden", outcome
