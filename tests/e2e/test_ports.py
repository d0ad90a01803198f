"""Forwarded ports as programs of this computer use them: both protocols, both loopback addresses, clients that behave
badly, crashes beside them, and what `vibe ports` says."""

import hashlib
import os
import random
import resource
import shutil
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lossy import LossyRelay, SlowRelay
from vibe_cli import BIN, eventually, free_port, get, probe, write_app

PORT = 9000
MIB = 1 << 20


def load_app(folder):
    """A service that answers as bench/port_load.h says: what a connection's first byte asks for."""
    app = write_app(folder, [probe("web", ["serve", "8080", "front"], ports=[{"container": 8080}]),
                             {"name": "load", "image": "vibe-examples/probe:latest", "entrypoint": ["/app/port-load"],
                              "command": ["serve", str(PORT)],
                              "ports": [{"container": PORT}, {"container": PORT, "protocol": "udp"}]}])
    shutil.copy2(BIN / "port-load", app / "port-load")
    return app


@pytest.fixture(scope="module")
def app(vibe, tmp_path_factory):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    folder = load_app(tmp_path_factory.mktemp("ports") / "ports")
    opened = vibe.open(folder)
    return {**opened, "folder": folder}


def port_of(project, protocol="tcp", service="load"):
    (found,) = [service_ for service_ in project["services"] if service_["name"] == service]
    (port,) = [port for port in found["ports"] if port["protocol"] == protocol]
    return port["hostPort"]


def counted(vibe, protocol="tcp"):
    (port,) = [port for port in vibe.json("ports", "ports")["ports"]
               if port["service"] == "load" and port["protocol"] == protocol]
    return port


def connect(project, first=b"", address="127.0.0.1"):
    client = socket.create_connection((address, port_of(project)), timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(first)
    return client


def exactly(client, size):
    data = bytearray()
    while len(data) < size:
        piece = client.recv(min(size - len(data), 1 << 18))
        assert piece, f"the stream ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def echoes(client, text=b"ping"):
    client.sendall(text)
    return exactly(client, len(text)) == text


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


# ---- addresses ----

def test_both_loopback_addresses_have_the_port(app):
    with connect(app, b"e") as client:
        assert echoes(client)
    if has_ipv6():
        with connect(app, b"e", "::1") as client:
            assert echoes(client)
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, port_of(app)), timeout=2)


def test_udp_is_forwarded_on_both_addresses(app):
    port = port_of(app, "udp")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))[:2 if has_ipv6() else 1]:
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect((address, port))
            for datagram in (b"question", b"", bytes(range(256)) * 200):
                client.send(datagram)
                assert client.recv(65_536) == datagram


def test_the_project_has_a_name_of_its_own(vibe, app):
    port = port_of(app, service="web")
    assert app["namedUrl"] == f"http://ports.localhost:{port}" and app["url"] == f"http://localhost:{port}"
    printed = vibe("open", app["folder"], "--yes")
    assert f"http://ports.localhost:{port}" in printed and f"localhost:{port_of(app, 'udp')}" in printed
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: ports.localhost:{port}\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200"), "the name is not answered"


# ---- clients that behave badly ----

def test_an_end_of_sending_is_passed_on_and_the_answer_still_comes(app):
    for size in (0, 1, 5 * MIB):
        with connect(app, b"u") as client:
            client.sendall(b"x" * size)
            client.shutdown(socket.SHUT_WR)
            assert struct.unpack("<Q", exactly(client, 8)) == (size,)
            assert client.recv(1) == b"", "the service's end was not passed on"


def test_a_reset_is_passed_on_in_both_directions(vibe, app):
    client = connect(app, b"r")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()
    before = eventually(lambda: counted(vibe) if counted(vibe)["openConnections"] == 0 else None, what="no connection")
    clients = [connect(app, b"h") for _ in range(20)]
    eventually(lambda: counted(vibe)["openConnections"] == 20, what="20 connections")
    for client in clients:
        reset(client)
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end of connections that were reset")
    assert counted(vibe)["connections"] == before["connections"] + 20


def test_a_service_that_ends_its_sending_first_still_hears_the_client(vibe, app):
    before = vibe("logs", "ports").count(f"ended after {5 * MIB} bytes")
    with connect(app, b"s") as client:
        assert client.recv(1) == b"", "the service's end was not passed on"
        client.sendall(b"x" * (5 * MIB))
    eventually(lambda: vibe("logs", "ports").count(f"ended after {5 * MIB} bytes") == before + 1,
               what="the client's bytes and their end")


def test_a_reset_reaches_the_service(vibe, app):
    client = connect(app, b"s")
    assert client.recv(1) == b""
    client.sendall(b"x" * 12_345)
    reset(client)  # which may overtake them
    eventually(lambda: "reset after" in vibe("logs", "ports"), what="the reset")


def connections_of_the_service(vibe):
    """How many the kernel has there, by whatever name."""
    table = vibe("exec", "-s", "load", "ports", "--", "/probe", "read", "/proc/net/tcp6").splitlines()[1:]
    return sum(line.split()[1].endswith(f":{PORT:04X}") and line.split()[3] == "01" for line in table)


def test_a_reset_reaches_a_service_that_does_not_read(vibe, app):
    before = connections_of_the_service(vibe)
    client = connect(app, b"h")
    client.settimeout(2)
    with pytest.raises(TimeoutError):
        while True:
            client.sendall(b"x" * MIB)
    assert connections_of_the_service(vibe) == before + 1
    reset(client)
    eventually(lambda: connections_of_the_service(vibe) == before, what="the end of the service's connection")
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end of the port's")


def is_over(client):
    """Waits for the end of a connection that the service keeps open, whichever way it ends."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_what_is_open_ends_when_the_ports_are_taken_back(vibe, app):
    before = connections_of_the_service(vibe)
    with connect(app, b"e") as client, connect(app, b"d") as flooded, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert echoes(client)
        exactly(flooded, MIB)
        datagrams.settimeout(10)
        datagrams.connect(("127.0.0.1", port_of(app, "udp")))
        datagrams.send(b"ping")
        assert datagrams.recv(10) == b"ping"
        vibe("revoke", "ports", "exposePorts")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionResetError):
            while True:
                flooded.recv(MIB)
        with pytest.raises(ConnectionRefusedError):
            datagrams.send(b"ping")
            datagrams.recv(10)
        eventually(lambda: connections_of_the_service(vibe) == before, what="the end of the service's connections")
    assert port_of(vibe.json("grant", "ports", "exposePorts")) == port_of(app)
    with connect(app, b"e") as client:
        assert echoes(client)


def test_what_is_open_ends_with_the_project(vibe, app):
    with connect(app, b"e") as client:
        assert echoes(client)
        vibe("stop", "ports")
        assert is_over(client)
    vibe("start", "ports")
    gone = vibe.json("open", app["folder"], "--yes", "--name", "gone")
    with connect(gone, b"e") as client:
        assert echoes(client)
        vibe("rm", "gone", "--yes")
        assert is_over(client)


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_client_that_never_reads_stops_the_service_and_nobody_else(vibe, app):
    with connect(app, b"e") as other:
        assert echoes(other)
        memory = resident(vibe.vibed())
        deaf = [connect(app, b"d") for _ in range(8)]
        given = eventually(lambda: (lambda now: time.sleep(0.3) or (now if counted(vibe)["bytesOut"] == now else None))(
            counted(vibe)["bytesOut"]), what="a standstill")
        assert resident(vibe.vibed()) - memory < 32 * MIB, "bytes pile up in vibed"
        assert echoes(other), "one client holds up another"
        # What was taken is there when it reads at last.
        assert exactly(deaf[0], 4 * MIB) == b"d" * (4 * MIB)
        assert counted(vibe)["bytesOut"] > given
        for client in deaf:
            client.close()
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end of all")


# ---- many ----

def test_ten_thousand_short_connections(vibe, app):
    before = counted(vibe)["connections"]

    def some(count):
        for number in range(count):
            with connect(app, b"c") as client:
                assert client.recv(10) == b"c" and client.recv(10) == b"", f"connection {number}"
        return count

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(some, [1250] * 8)) == 10_000
    assert counted(vibe)["connections"] == before + 10_000
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end of all")


def test_two_thousand_idle_connections(vibe, app):
    memory, threads = resident(vibe.vibed()), len(os.listdir(f"/proc/{vibe.vibed()}/task"))
    idle = [connect(app, b"e") for _ in range(2000)]
    eventually(lambda: counted(vibe)["openConnections"] == 2000, what="2000 connections")
    assert resident(vibe.vibed()) - memory < 40 * MIB
    assert len(os.listdir(f"/proc/{vibe.vibed()}/task")) <= threads + 4, "connections have threads of their own"
    started = time.monotonic()
    assert get(app["url"]) == "front\n"
    assert time.monotonic() - started < 1
    assert all(echoes(client) for client in idle)
    for client in idle:
        client.close()
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end of all")


def test_the_clients_of_one_port_leave_connections_to_the_others(vibe, app):
    most = 6000  # docs/ports.md
    crowd = [connect(app, b"e") for _ in range(most)]
    eventually(lambda: counted(vibe)["openConnections"] == most, what="a full port")
    with pytest.raises(ConnectionError):
        echoes(connect(app, b"e"))
    assert get(app["url"]) == "front\n"
    assert echoes(crowd[0]) and echoes(crowd[-1])
    for client in crowd:
        client.close()
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end of all")


def test_hundreds_of_clients_of_udp(vibe, app):
    port = port_of(app, "udp")
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(400)]
    for number, client in enumerate(clients):
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.send(str(number).encode())
        assert client.recv(100) == str(number).encode(), "an answer went to another client"
    for number, client in enumerate(clients):
        client.send(b"again")
        assert client.recv(100) == b"again"
        client.close()
    assert counted(vibe, "udp")["connections"] >= 400


# ---- a bad network ----

def test_a_slow_network_changes_no_byte(app):
    data = random.Random(7).randbytes(2 * MIB)
    relay = SlowRelay(port_of(app))
    digests = {}

    def transfer(number):
        with socket.create_connection(("127.0.0.1", relay.port), timeout=50) as client:
            client.sendall(b"e")
            sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
            sender.start()
            digests[number] = hashlib.sha256(exactly(client, len(data))).hexdigest()
            sender.join()

    transfers = [threading.Thread(target=transfer, args=(number,)) for number in range(3)]
    for thread in transfers:
        thread.start()
    for thread in transfers:
        thread.join()
    relay.close()
    assert digests == {number: hashlib.sha256(data).hexdigest() for number in range(3)}


def test_lost_datagrams_stay_lost_and_the_others_are_whole(app):
    relay = LossyRelay(port_of(app, "udp"), loss=0.2)
    sent = {number: bytes([number % 256]) * (number % 1400) for number in range(500)}
    back = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", relay.port))
        client.settimeout(2)

        def listen():
            try:
                while True:
                    datagram = client.recv(65_536)
                    back[struct.unpack("<I", datagram[:4])[0]] = datagram[4:]
            except OSError:
                pass

        listener = threading.Thread(target=listen)
        listener.start()
        for number, payload in sent.items():
            client.send(struct.pack("<I", number) + payload)
            time.sleep(0.001)
        listener.join()
    relay.close()
    assert all(back[number] == sent[number] for number in back), "a datagram came back changed"
    # Twice on a way that loses a fifth: some 64 of 100 come back.
    assert 0.5 < len(back) / len(sent) < 0.8, f"{len(back)} of {len(sent)}, and the network dropped {relay.dropped}"


# ---- crashes ----

def test_connections_outlive_the_supervisor(vibe, app):
    with connect(app, b"e") as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert echoes(client)
        vibe.kill("vibe-supervisor")
        assert echoes(client, b"x" * MIB), "an open connection ended with the supervisor"
        with connect(app, b"e") as late:  # made while it is away, answered when it is back
            assert echoes(late)
        datagrams.connect(("127.0.0.1", port_of(app, "udp")))
        datagrams.settimeout(0.5)

        def answered():
            try:
                datagrams.send(b"here?")
                return datagrams.recv(100) == b"here?"
            except OSError:
                return False

        eventually(answered, what="an answer to a datagram")
        assert echoes(client)


def test_the_next_vibed_has_the_same_ports(vibe, app):
    vibe.kill_vibed()
    after = vibe.project("ports")
    assert [port_of(after), port_of(after, "udp")] == [port_of(app), port_of(app, "udp")]

    def again():
        try:
            with connect(app, b"e") as client:
                return echoes(client)
        except OSError:
            return False

    eventually(again, what="the port of the new vibed")


# ---- chosen ports, and what is said about them ----

def test_a_port_that_was_chosen_is_kept(vibe, app):
    chosen = free_port()
    opened = vibe.json("open", app["folder"], "--yes", "--port", f"web:{chosen}", "--port", f"load:{chosen}:{PORT}/udp")
    assert port_of(opened, service="web") == chosen and port_of(opened, "udp") == chosen
    assert port_of(opened) == port_of(app), "another port moved as well"
    assert get(f"http://localhost:{chosen}") == "front\n"
    assert get(app["url"]) is None, "the old port is still there"
    vibe("stop", "ports")
    assert port_of(vibe.json("start", "ports"), service="web") == chosen
    again = vibe.json("open", app["folder"], "--yes", "--port", "web:0", "--port", f"load:{port_of(app, 'udp')}:{PORT}/udp")
    assert port_of(again, service="web") not in (0, None, chosen)


def test_a_port_that_is_taken_is_an_error_that_says_who_has_it(vibe, app):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        error = vibe.fails("open", app["folder"], "--yes", "--port", f"web:{number}")
        assert str(number) in error and f"process {os.getpid()}" in error and "--port" in error
        assert port_of(vibe.project("ports"), service="web") != number, "the port that was refused is kept"
        vibe("restart", "ports")
    assert vibe.json("start", "ports")["status"] == "running", "it stays unusable when the port is free again"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        error = vibe.fails("open", app["folder"], "--yes", "--port", f"load:{number}:{PORT}/udp")
        assert f"{number}/udp" in error and f"--port load:PORT:{PORT}/udp" in error
        assert port_of(vibe.project("ports"), "udp") != number, "the port that was refused is kept"
    vibe("open", app["folder"], "--yes", "--port", "web:0")
    error = vibe.fails("open", app["folder"], "--yes", "--name", "second", "--port", f"load:{port_of(app)}:{PORT}/tcp")
    assert "of the project ports" in error
    assert vibe.project("second") is None, "a project that was refused is listed"
    for choice in ("nobody:1", "web", "load:8080", "web:99999", "web:8080:1"):
        assert "error" in vibe.fails("open", app["folder"], "--yes", "--port", choice)


def test_what_went_through_is_counted(vibe, app):
    vibe("restart", "ports")
    opened = vibe.project("ports")
    with connect(opened, b"u") as client:
        client.sendall(b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        exactly(client, 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port_of(opened, "udp")))
        client.settimeout(10)
        client.send(b"12345")
        client.recv(100)
    eventually(lambda: counted(vibe)["openConnections"] == 0, what="the end")
    tcp, udp = counted(vibe), counted(vibe, "udp")
    assert (tcp["connections"], tcp["bytesIn"], tcp["bytesOut"]) == (1, 1001, 8)
    assert (udp["connections"], udp["openConnections"], udp["bytesIn"], udp["bytesOut"]) == (1, 1, 5, 5)
    (project,) = vibe.json("ps", "ports")["projects"]
    (load,) = [service for service in project["services"] if service["name"] == "load"]
    assert {(port["connections"], port["bytesIn"], port["bytesOut"]) for port in load["ports"]} == {(1, 1001, 8), (1, 5, 5)}
    table = vibe("ports", "ports")
    assert f"localhost:{port_of(opened)}" in table and f"{PORT}/udp" in table and "http://ports.localhost:" in table
