"""Who reaches whom in a virtual machine: the table of docs/network.md, and what changes while it runs. One boot."""

import json
import shutil
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from killing_image import make_killing_image
from network_matrix import HOST_PORT, PROJECT_OF, Spoofing, World, plain_rows, spoofed_rows
from network_world import PUBLIC4, PUBLIC_PORT, AddressMore, Guest, attempt, attempts, run
from vibe_cli import Vibe, eventually

LATE4 = "198.51.100.8"
# Of vsock: any, the hypervisor, itself, the host, this guest, everybody; and the supervisor's ports.
CIDS, RPC_PORTS = (0, 1, 2, 3, 0xFFFFFFFF), (1024, 1025)


@pytest.fixture(scope="module")
def world(tmp_path_factory, network_probe):
    folder = tmp_path_factory.mktemp("vm")
    image = folder / "image"
    image.mkdir()
    home = Path(tempfile.mkdtemp(prefix="vibe-vm-"))
    cli = Vibe(home / "home", machine="qemu")
    cli.environment.update(VIBE_MACHINE_MEMORY="1GiB", VIBE_VM_IMAGE=str(make_killing_image(image, program=network_probe)))
    try:
        with ExitStack() as stack:
            # Under emulation everything takes longer; a timeout would take 1.5 s.
            yield World(cli, folder, network_probe, lambda vibe, _: Guest(vibe, "other", "web"), stack, at_once_ms=900)
    finally:
        cli.close()
        shutil.rmtree(home)


@pytest.fixture
def vm(world):
    return world.vibe


@pytest.mark.parametrize("network", PROJECT_OF)
def test_the_table(world, network):
    assert world.wrong([key for key in plain_rows() if key[1] == network]) == []


def test_who_sends_as_another_is_not_heard(world):
    assert {cell for cells in spoofed_rows().values() for cell in cells} == {"dropped"}
    spoofing = Spoofing(world)
    spoofing.send()
    assert spoofing.wrong() == []


def test_the_servers_that_nobody_reaches_are_there(world):
    assert world.silent_servers() == []


def test_no_service_has_the_supervisors_sockets_or_makes_packets(world):
    """The supervisor listens on vsock, or on a serial port; whoever could open such a socket would be heard there."""
    aims = [f"vsock,{cid},{port}" for cid in CIDS for port in RPC_PORTS]
    for project in PROJECT_OF.values():
        outcomes = attempts(world.vibe, project, [*aims, "raw4", "raw6", "packet", "address", "transparent"])
        assert {outcome["outcome"] for outcome in outcomes} == {"forbidden"}, outcomes
    boot = json.loads((world.vibe.home / "machine" / "qemu" / "run" / "boot.json").read_text())
    if boot["transport"] != "virtio-serial":
        # The guest has them, for its own programs.
        assert json.loads(world.machine.run("try", "vsock,2,1024"))["outcome"] != "forbidden"


def test_the_internet_comes_and_goes_without_a_restart(vm):
    public = f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    vm("revoke", "online", "network")
    assert attempt(vm, "online", public)["outcome"] == "refused"
    vm("grant", "online", "network")
    assert attempt(vm, "online", public)["outcome"] == "open"


def test_an_address_that_this_computer_gets_later_is_out_of_reach(vm, network_probe):
    late, public = f"tcp,{LATE4},{HOST_PORT}", f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    with closing(AddressMore(LATE4)):
        assert '"outcome": "open"' in run(network_probe, "try", late), "a refusal would prove nothing"
        eventually(lambda: attempt(vm, "online", late)["outcome"] == "refused", timeout=10, what="the refusal")
        assert attempt(vm, "online", public)["outcome"] == "open"


def test_a_decision_while_the_machine_is_suspended_holds_when_it_wakes(vm):
    public = f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    for command, outcome in (("revoke", "refused"), ("grant", "open")):
        vm("machine", "stop")
        vm(command, "online", "network")
        vm("machine", "start")
        assert vm.json("machine", "status")["resumed"], "it was booted"
        assert attempt(vm, "online", public)["outcome"] == outcome


def test_a_suspended_machine_wakes_where_this_computer_is_then(vm):
    late, public = f"tcp,{LATE4},{HOST_PORT}", f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    vm("machine", "stop")
    with closing(AddressMore(LATE4)):
        vm("machine", "start")
        assert vm.json("machine", "status")["resumed"], "it was booted"
        assert attempt(vm, "online", late)["outcome"] == "refused", "it was told before anybody is served"
        assert attempt(vm, "online", public)["outcome"] == "open"
