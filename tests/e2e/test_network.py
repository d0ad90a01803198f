"""Who reaches whom, tried with real connections from inside the services."""

import json
import socket
import threading

import pytest

from network_world import addresses_of, gateways_of
from vibe_cli import probe, write_app


def reaches(vibe, project, address, port, service="web"):
    return vibe.run("exec", project, "-s", service, "--", "/probe", "connect", address, str(port)).returncode == 0


def address_of(vibe, project, service, version):
    return addresses_of(vibe, project, service)[version == 6]


@pytest.fixture(scope="module")
def apps(vibe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    services = [probe("back", ["serve", "9000", "back"]),
                probe("web", ["serve", "8080", "front"], ports=[{"container": 8080}], dependsOn=["back"])]
    vibe.open(write_app(folder / "one", services), name="one")
    vibe.open(write_app(folder / "two", services), name="two")
    vibe.open(write_app(folder / "online", services, security={"network": True}), name="online")


@pytest.fixture(scope="module")
def host_port():
    """A server on this computer, on all its addresses."""
    listener = socket.create_server(("", 0))
    thread = threading.Thread(target=lambda: [connection.close() for connection, _ in iter_accept(listener)])
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def iter_accept(listener):
    while True:
        try:
            yield listener.accept()
        except OSError:
            return


@pytest.mark.parametrize("version", [4, 6])
def test_services_of_one_project_reach_each_other_by_name_and_address(vibe, apps, version):
    assert reaches(vibe, "one", "back", 9000)
    assert reaches(vibe, "one", address_of(vibe, "one", "back", version), 9000)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("service, port", [("back", 9000), ("web", 8080)])
def test_another_project_is_out_of_reach(vibe, apps, version, service, port):
    there = address_of(vibe, "two", service, version)
    assert reaches(vibe, "two", there, port), "the test aims at an address where nothing listens"
    assert not reaches(vibe, "one", there, port)
    assert not reaches(vibe, "online", there, port)


@pytest.mark.parametrize("project", ["one", "online"])
def test_the_host_is_out_of_reach(vibe, apps, host_port, project):
    with socket.create_connection(("127.0.0.1", host_port), timeout=2):
        pass  # the server is there
    assert not reaches(vibe, project, "10.0.2.2", host_port), "through the uplink's gateway"
    assert not reaches(vibe, project, "10.0.2.2", 1024)


@pytest.mark.parametrize("project", ["one", "online"])
def test_what_the_machine_listens_on_is_out_of_reach(vibe, apps, project):
    assert not reaches(vibe, project, gateways_of(vibe, project)[0], 8080)
    assert not reaches(vibe, project, "169.254.169.254", 80)


def test_a_refused_capability_closes_the_port(vibe, apps):
    (web,) = [service for service in vibe.project("one")["services"] if service["name"] == "web"]
    assert web["ports"][0]["hostPort"]
    (back,) = [service for service in vibe.project("one")["services"] if service["name"] == "back"]
    assert not any(port["hostPort"] for port in back["ports"]), json.dumps(back)
