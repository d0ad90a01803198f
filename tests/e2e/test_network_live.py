"""The network while things change: grants given and taken, tables replaced, machines that die; and what a service can do
that wants to be another."""

import json
import subprocess
import time
from contextlib import closing, contextmanager
from datetime import datetime

import pytest

from network_world import (HOST4, HOST6, PUBLIC4, PUBLIC_PORT, SERVICE_PORT, AddressMore, Internet, Server,
                           addresses_of, attempt, attempts, run, serving, write_probe_app)
from vibe_cli import Failed, eventually, get, probe

ONLINE = {"security": {"network": True}}
PUBLIC = f"tcp,{PUBLIC4},{PUBLIC_PORT}"
HOST_PORT, LATE4 = 7646, "198.51.100.7"


@pytest.fixture(scope="module")
def internet(network_probe):
    internet = Internet(network_probe)
    yield internet
    internet.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("apps")


def services(vibe, project):
    return {service["name"]: (service["startedAt"], service["restartCount"]) for service in vibe.project(project)["services"]}


def log(vibe, project, service):
    return vibe("logs", project, "-s", service, "-n", "100000")


# ---- grants

@pytest.fixture(scope="module")
def online(vibe, internet, folder, network_probe):
    """May reach the internet."""
    app = write_probe_app(folder / "online", [serving("web", 8080, ports=[{"container": 8080}]), serving("back")], network_probe,
                          **ONLINE)
    vibe.open(app, name="online")
    return "online"


def test_the_internet_comes_and_goes_without_a_restart(vibe, online):
    before = services(vibe, online)
    assert attempt(vibe, online, PUBLIC)["outcome"] == "open"
    for _ in range(3):
        assert vibe.json("revoke", online, "network")["decisions"]["network"] is False
        outcome = attempt(vibe, online, PUBLIC)
        assert outcome["outcome"] == "refused" and outcome["ms"] < 500, outcome
        assert attempt(vibe, online, f"tcp,{addresses_of(vibe, online, 'back')[0]},{SERVICE_PORT}")["outcome"] == "open"
        assert vibe.json("grant", online, "network")["decisions"]["network"] is True
        assert attempt(vibe, online, PUBLIC)["outcome"] == "open"
    assert services(vibe, online) == before


def test_a_connection_that_is_open_ends_when_the_internet_is_taken_back(vibe, online):
    held = subprocess.Popen([str(vibe.programs / "vibe"), "exec", online, "-s", "web", "--", "/app/network_probe", "hold", PUBLIC4,
                             str(PUBLIC_PORT)], env=vibe.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline() == "connected\n"
        time.sleep(0.3)
        assert held.poll() is None
        begun = time.monotonic()
        vibe("revoke", online, "network")
        assert held.wait(timeout=5) == 0
        assert time.monotonic() - begun < 3
        assert "reset" in held.stdout.read()
    finally:
        held.kill()
        held.wait()
        vibe("grant", online, "network")


def test_what_was_taken_back_stays_so(vibe, online):
    vibe("revoke", online, "network")
    vibe("restart", online)
    assert attempt(vibe, online, PUBLIC)["outcome"] == "refused"
    vibe.kill("vibe-supervisor")
    assert eventually(lambda: vibe.run("exec", online, "-s", "web", "--", "/app/network_probe", "try", PUBLIC).stdout,
                      what="the supervisor's return")
    assert attempt(vibe, online, PUBLIC)["outcome"] == "refused"
    vibe("grant", online, "network")
    assert attempt(vibe, online, PUBLIC)["outcome"] == "open"


def test_a_decision_while_the_machine_is_stopped_holds_when_it_runs_again(vibe, online):
    vibe("machine", "stop")
    assert vibe.json("revoke", online, "network")["decisions"]["network"] is False
    vibe("machine", "start")
    eventually(lambda: vibe.project(online)["status"] == "running", what="the project's return")
    assert attempt(vibe, online, PUBLIC)["outcome"] == "refused"
    vibe("machine", "stop")
    vibe("grant", online, "network")
    vibe("machine", "start")
    eventually(lambda: vibe.project(online)["status"] == "running", what="the project's return")
    assert attempt(vibe, online, PUBLIC)["outcome"] == "open"


def seconds_of(time_of_log):
    """Since 1970. Its fraction has as many digits as it needs, up to nine; older Pythons read three or six."""
    whole, _, fraction = time_of_log.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def test_a_decision_while_the_machine_is_stopped_holds_from_the_first_packet(vibe, internet, folder, network_probe):
    """A service tries to reach the internet from its first instant on, without end."""
    eager = {**probe("out", ["hammer", PUBLIC4, str(PUBLIC_PORT)]), "entrypoint": ["/app/network_probe"]}
    vibe.open(write_probe_app(folder / "eager", [serving("web", 8080), eager], network_probe, **ONLINE), name="eager")

    def said_since(moment):
        lines = vibe.json("logs", "eager", "-s", "out", "-n", "100000")["lines"]
        return [line["text"] for line in lines if seconds_of(line["time"]) > moment]

    eventually(lambda: "reached" in said_since(0), what="the internet")
    for _ in range(2):
        vibe("machine", "stop")
        vibe("revoke", "eager", "network")
        stopped = time.time()
        vibe("machine", "start")
        eventually(lambda: any("tried" in text for text in said_since(stopped)), what="its attempts")
        assert "reached" not in said_since(stopped), "it had the internet before it was told"
        vibe("machine", "stop")
        vibe("grant", "eager", "network")
        stopped = time.time()
        vibe("machine", "start")
        eventually(lambda: "reached" in said_since(stopped), what="the internet")
    vibe("rm", "eager", "--yes")


def test_the_address_comes_and_goes_without_a_restart(vibe, online):
    before = services(vibe, online)
    url = vibe.project(online)["url"]
    assert url
    revoked = vibe.json("revoke", online, "exposePorts")
    assert not revoked["url"] and get(url) is None
    granted = vibe.json("grant", online, "exposePorts")
    assert granted["url"] == url, "the port is kept"
    assert services(vibe, online) == before


def test_only_what_the_app_asks_for_can_be_granted(vibe, folder, network_probe):
    vibe.open(write_probe_app(folder / "modest", [serving("web", 8080)], network_probe), name="modest")
    with pytest.raises(Failed, match="does not ask for network"):
        vibe("grant", "modest", "network")
    with pytest.raises(Failed, match="there is no capability everything"):
        vibe("grant", "modest", "everything")
    vibe("revoke", "modest", "network")
    vibe("rm", "modest", "--yes")


# ---- no window

def test_nothing_gets_through_while_machine_and_tables_come_and_go(vibe, internet, online, folder, network_probe):
    """Services aim at another project's service without end, at the internet that they were refused, and at a service of their
    own project, while the supervisor dies and makes the tables anew, projects come and go, and the machine
    is booted: packets of TCP and UDP, some thousands a second."""
    forbidden = addresses_of(vibe, online, "back")
    hammer = {"entrypoint": ["/app/network_probe"]}
    app = write_probe_app(folder / "hammer", [
        serving("web", 8080),
        {**probe("over4", ["hammer", forbidden[0], str(SERVICE_PORT)]), **hammer},
        {**probe("over6", ["hammer", forbidden[1], str(SERVICE_PORT)]), **hammer},
        {**probe("out", ["hammer", PUBLIC4, str(PUBLIC_PORT)]), **hammer},
        {**probe("inside", ["hammer", "web", "8080"]), **hammer}], network_probe, **ONLINE)
    vibe.open(app, name="hammer")
    eventually(lambda: internet.heard("hammer") and "reached" in log(vibe, "hammer", "out"), what="what is granted to arrive")
    vibe("revoke", "hammer", "network")
    time.sleep(0.2)
    heard, revoked = internet.heard("hammer"), time.time()
    instants = []

    @contextmanager
    def meanwhile(what):
        begun = time.time()
        yield
        time.sleep(0.1)  # each says each 50 ms what it did
        instants.append((what, begun, time.time()))

    def is_back():
        return vibe.run("exec", "hammer", "-s", "web", "--", "/app/network_probe", "try", f"tcp,{own},8080").returncode == 0

    own = addresses_of(vibe, "hammer", "web")[0]
    for round_number in range(2):
        with meanwhile("the supervisor makes the tables anew"):
            vibe.kill("vibe-supervisor")
            eventually(is_back, what="the supervisor's return")
        with meanwhile("another project comes"):
            vibe.open(write_probe_app(folder / f"passing{round_number}", [serving("web", 8080)], network_probe), name="passing")
        with meanwhile("another project goes"):
            vibe("rm", "passing", "--yes")
        with meanwhile("the one aimed at comes and goes"):
            vibe("stop", online)
            vibe("start", online)
        vibe("machine", "stop")
        with meanwhile("the machine boots"):
            vibe("machine", "start")
            for name in (online, "hammer"):
                eventually(lambda name=name: vibe.project(name)["status"] == "running", what="the project's return")
    assert addresses_of(vibe, online, "back") == forbidden
    vibe("stop", "hammer")

    for service in ("over4", "over6", "out", "inside"):
        lines = [(seconds_of(line["time"]), line["text"]) for line in
                 vibe.json("logs", "hammer", "-s", service, "-n", "100000")["lines"]]
        reached = [moment for moment, text in lines if text == "reached" and moment > revoked]
        for what, begun, ended in instants:
            tried = [moment for moment, text in lines if text.startswith("tried") and begun < moment < ended]
            assert tried, f"{service} did not try while {what}"
            assert service != "inside" or any(begun < moment < ended for moment in reached), f"nothing can be reached while {what}"
        if service != "inside":
            assert reached == [], service
        counts = [tuple(int(word) for word in text.split()[1::2]) for _, text in lines if text.startswith("tried")]
        assert max(tried for tried, _ in counts) > 1000, f"{service} hardly tried: {counts[-1:]}"
        # A replaced table may lose a packet; all else is refused, and at once.
        assert all(silent <= 5 + tried // 100 for tried, silent in counts), f"{service} was not refused: {counts}"
    assert internet.heard("hammer") == heard
    assert "got hammer" not in log(vibe, online, "back") and "got hammer" in log(vibe, "hammer", "web")
    # Both would have heard it.
    aims = [f"{protocol},{address},{SERVICE_PORT}" for protocol in ("tcp", "udp") for address in forbidden]
    assert [outcome["outcome"] for outcome in attempts(vibe, online, aims)] == ["open"] * 4
    assert attempt(vibe, online, PUBLIC)["answer"].strip() == "hello from the internet"
    vibe("rm", "hammer", "--yes")


# ---- this computer

def enter_machine(vibe):
    return ["nsenter", f"--net=/proc/{vibe.machine_init()}/ns/net"]


def listed_host_addresses(vibe):
    listed = json.loads(run(*enter_machine(vibe), "nft", "-j", "list", "table", "inet", "vibe"))["nftables"]
    return {address for entry in listed if entry.get("set", {}).get("name") in ("host4", "host6")
            for address in entry["set"].get("elem", [])}


def test_an_address_that_this_computer_gets_later_is_out_of_reach(vibe, online, network_probe):
    assert {HOST4, HOST6} <= listed_host_addresses(vibe)
    aims = [f"{protocol},{LATE4},{HOST_PORT}" for protocol in ("tcp", "udp")]
    with closing(Server(network_probe, HOST_PORT)), closing(AddressMore(LATE4)):
        from_machine = run(*enter_machine(vibe), network_probe, "try", *aims)
        assert from_machine.count('"outcome": "open"') == 2, f"a refusal would prove nothing: {from_machine}"
        eventually(lambda: all(outcome["outcome"] == "refused" for outcome in attempts(vibe, online, aims)), timeout=5,
                   what="the refusal")
        assert max(outcome["ms"] for outcome in attempts(vibe, online, aims)) < 500
        assert attempt(vibe, online, PUBLIC)["outcome"] == "open", "nothing else was taken away"
    # Whoever has that address next is on the internet again.
    eventually(lambda: LATE4 not in listed_host_addresses(vibe), timeout=5, what="the end of the refusal")


def test_no_moment_lets_a_service_reach_this_computer(vibe, internet, folder, network_probe):
    """A service that has the internet aims at this computer without end, while everything that keeps it away dies and comes
    back."""
    app = write_probe_app(folder / "prying", [
        serving("web", 8080), {**probe("pry", ["hammer", HOST4, str(HOST_PORT)]), "entrypoint": ["/app/network_probe"]}],
        network_probe, **ONLINE)

    def is_online():
        return '"outcome": "open"' in vibe.run("exec", "prying", "-s", "web", "--", "/app/network_probe", "try", PUBLIC).stdout

    with closing(Server(network_probe, HOST_PORT)):
        vibe.open(app, name="prying")
        assert is_online()
        for _ in range(3):
            vibe.kill("vibe-supervisor")
            eventually(is_online, what="the supervisor's return")
        vibe.kill_vibed()
        eventually(is_online, what="vibed's return")
        vibe("machine", "stop")
        vibe("machine", "start")
        eventually(is_online, what="the machine's return")
        vibe("stop", "prying")
    lines = log(vibe, "prying", "pry")
    tried = [int(line.split()[-3]) for line in lines.splitlines() if "tried" in line]
    assert max(tried) > 1000, f"it hardly tried: {tried}"
    assert "reached" not in lines
    vibe("rm", "prying", "--yes")


# ---- to be another

@pytest.fixture(scope="module")
def three(vibe, folder, network_probe):
    vibe.open(write_probe_app(folder / "three", [serving("web", 8080), serving("victim"), serving("target")], network_probe),
              name="three")
    return "three"


def namespace(vibe, project, service):
    """The network namespace of a service, as this process reaches it."""
    four = addresses_of(vibe, project, service)[0]
    for path in vibe.inside("/run/netns").iterdir():
        if f" {four}/" in run("nsenter", f"--net={path}", "ip", "-o", "-4", "addr"):
            return path
    raise AssertionError(f"{four} is nowhere")


def heard(vibe, project, service="target"):
    return log(vibe, project, service).count("got spoofed")


def test_a_service_cannot_speak_as_its_neighbour(vibe, three):
    """Any process may bind to an IPv6 address that is not its own, and the kernel sends from there."""
    victim, target = addresses_of(vibe, three, "victim"), addresses_of(vibe, three, "target")
    own = addresses_of(vibe, three, "web")
    for source, to in zip(own, target):
        assert attempt(vibe, three, f"as-udp,{source},{to},{SERVICE_PORT}")["outcome"] == "sent"
    eventually(lambda: heard(vibe, three) == 2, what="what it says as itself")
    other = addresses_of(vibe, "online", "web")
    for sources in (victim, target, other, ("10.64.0.1", "fd76:6962:65::1"), (PUBLIC4, "2001:db8::7"), ("127.0.0.1", "::1")):
        outcomes = attempts(vibe, three, [f"as-udp,{source},{to},{SERVICE_PORT}" for source, to in zip(sources, target)])
        assert outcomes[0]["outcome"] == "forbidden", outcomes
    time.sleep(0.3)
    assert heard(vibe, three) == 2


FRAMES = """
import socket, struct, sys
own, other4, other6, target4, target6 = sys.argv[1:6]
mac = bytes.fromhex(own.replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
four, six = socket.inet_aton(other4), socket.inet_pton(socket.AF_INET6, other6)
everybody = b"\\xff" * 6
for operation in (1, 2):
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac + four + everybody + (four if operation == 1 else socket.inet_aton(target4))
    wire.send(everybody + mac + b"\\x08\\x06" + arp)
    # As what it is in the frame, and as another in the message.
    wire.send(everybody + bytes.fromhex("0276deadbeef") + b"\\x08\\x06" + arp)

def advertisement(source):
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + six + b"\\x02\\x01" + mac
    to = socket.inet_pton(socket.AF_INET6, target6)
    pseudo = source + to + struct.pack("!II", len(body), 58)
    words = struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + to + body

for source in (six, socket.inet_pton(socket.AF_INET6, sys.argv[6])):
    wire.send(everybody + mac + b"\\x86\\xdd" + advertisement(source))
"""


def test_not_even_raw_frames_make_a_service_another(vibe, three):
    """What no service has: this process enters the namespace of one, with every privilege."""
    web, victim, target = (addresses_of(vibe, three, name) for name in ("web", "victim", "target"))
    enter = ["nsenter", f"--net={namespace(vibe, three, 'web')}"]
    look = ["nsenter", f"--net={namespace(vibe, three, 'target')}", "ip", "-j", "neigh", "show"]
    whats = [f"tcp,{address},{SERVICE_PORT}" for address in victim]
    assert all(outcome["outcome"] == "open" for outcome in attempts(vibe, three, whats, "target"))

    def known():
        return {entry["dst"]: entry["lladdr"] for entry in json.loads(run(*look)) if entry["dst"] in victim}

    before = known()
    assert set(before) == set(victim)
    mac = json.loads(run(*enter, "ip", "-j", "link", "show", "eth0"))[0]["address"]
    run(*enter, "/usr/bin/python3", "-c", FRAMES, mac, *victim, *target, web[1])
    time.sleep(0.3)
    assert known() == before, "the target takes the service for its neighbour"
    # With the neighbour's addresses on its own interface.
    for address, length in ((victim[0], 22), (victim[1], 64)):
        run(*enter, "ip", "addr", "add", f"{address}/{length}", "dev", "eth0", *(["nodad"] if ":" in address else []))
    try:
        heard_before = heard(vibe, three)
        send = "import socket,sys\ns=socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET,socket.SOCK_DGRAM)\n" \
               "s.bind((sys.argv[1],0))\ns.sendto(b'spoofed',(sys.argv[2],int(sys.argv[3])))"
        for source, to in zip(victim, target):
            run(*enter, "/usr/bin/python3", "-c", send, source, to, SERVICE_PORT)
        time.sleep(0.3)
        assert heard(vibe, three) == heard_before
        for source, to in zip(web, target):
            run(*enter, "/usr/bin/python3", "-c", send, source, to, SERVICE_PORT)
        eventually(lambda: heard(vibe, three) == heard_before + 2, what="what it says as itself")
    finally:
        for address, length in ((victim[0], 22), (victim[1], 64)):
            run(*enter, "ip", "addr", "del", f"{address}/{length}", "dev", "eth0")


# ---- crashes

def picture(vibe):
    """All that the machine's network is made of, without what numbers and times there are."""
    enter = ["nsenter", f"--net=/proc/{vibe.machine_init()}/ns/net"]
    tables = json.loads(run(*enter, "nft", "-j", "list", "ruleset"))["nftables"]

    def plain(item):
        if isinstance(item, dict):
            return {key: plain(value) for key, value in item.items() if key not in ("handle", "metainfo")}
        return sorted((plain(value) for value in item), key=str) if isinstance(item, list) else item

    links = json.loads(run(*enter, "ip", "-j", "addr"))
    bridges = {link["ifname"]: (link["address"], sorted(address["local"] for address in link["addr_info"]))
               for link in links if link["ifname"].startswith("vibe-")}
    inside = {}
    for path in sorted(vibe.inside("/run/netns").iterdir()):
        enter_service = ["nsenter", f"--net={path}"]
        (eth0,) = [link for link in json.loads(run(*enter_service, "ip", "-j", "addr")) if link["ifname"] == "eth0"]
        routes = [f"{route['dst']} {route.get('gateway')}" for version in "46"
                  for route in json.loads(run(*enter_service, "ip", "-j", f"-{version}", "route"))]
        inside[path.name] = (eth0["address"], sorted(address["local"] for address in eth0["addr_info"]), sorted(routes))
    return {"tables": [plain(entry) for entry in tables], "bridges": bridges, "services": inside,
            "ports": sum(link.get("master", "").startswith("vibe-") for link in links)}


def test_networks_are_the_same_after_crashes_and_boots(vibe, online, three):
    before = picture(vibe)
    assert len(before["services"]) == before["ports"] == 5
    for program in ("vibe-supervisor", "containerd"):
        vibe.kill(program)
        eventually(lambda: vibe.run("exec", three, "-s", "web", "--", "/probe", "env").returncode == 0, what="its return")
        assert picture(vibe) == before, f"after {program} was killed"
    # In the middle of a start.
    starting = subprocess.Popen([str(vibe.programs / "vibe"), "restart", three], env=vibe.environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
    time.sleep(0.35)
    vibe.kill("vibe-supervisor")
    starting.wait()
    vibe("start", three)
    assert picture(vibe) == before, "after the supervisor was killed in a restart"
    # And with everything at once: the machine's first process.
    vibe("machine", "stop")
    vibe("machine", "start")
    for name in (online, three):
        eventually(lambda name=name: vibe.project(name)["status"] == "running", what="its return")
    assert picture(vibe) == before, "after a boot"
    for name in (online, three):
        vibe("stop", name)
    left = picture(vibe)
    assert left["services"] == {} and left["bridges"] == {}
