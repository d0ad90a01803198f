"""Who reaches whom in a virtual machine: the rows of docs/network.md's table that are different there, and some that must not
be. One boot."""

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from network_world import (HOST4, PUBLIC4, PUBLIC_PORT, SERVICE_PORT, AddressMore, Internet, Server, addresses_of,
                           attempt, attempts, gateways_of, run, serving, write_probe_app)
from vibe_cli import Vibe, eventually

HOST_PORT, LATE4 = 7644, "198.51.100.8"
GUEST, GATEWAY = "10.0.2.15", "10.0.2.2"


@pytest.fixture(scope="module")
def vm(tmp_path_factory, network_probe):
    folder = tmp_path_factory.mktemp("vm")
    home = Path(tempfile.mkdtemp(prefix="vibe-vm-"))
    cli = Vibe(home / "home", machine="qemu")
    cli.environment["VIBE_MACHINE_MEMORY"] = "1GiB"
    internet = Internet(network_probe)
    host = Server(network_probe, HOST_PORT)
    try:
        for name in ("one", "other"):
            cli.open(write_probe_app(folder / name, [serving("back"), serving("web", 8080)], network_probe, security={"network": True}),
                     name=name)
        yield cli
    finally:
        cli.close()
        host.close()
        internet.close()
        shutil.rmtree(home)


def test_the_walls_are_those_of_the_native_machine(vm):
    both = ("tcp", "udp")
    back, other = addresses_of(vm, "one", "back"), addresses_of(vm, "other", "back")
    open_ones = [f"{protocol},{address},{SERVICE_PORT}" for protocol in both for address in back]
    open_ones += [f"{protocol},{PUBLIC4},{PUBLIC_PORT}" for protocol in both]
    # The supervisor's ports are vsock's, or 1025 of the fallback.
    refused = [f"{protocol},{address},{SERVICE_PORT}" for protocol in both for address in other]
    refused += [f"{protocol},{address},{port}" for protocol in both for port in (1024, 1025, 53)
                for address in (*gateways_of(vm, "one"), GUEST)]
    refused += [f"{protocol},{address},{HOST_PORT}" for protocol in both for address in (GATEWAY, HOST4)]
    refused += ["tcp,169.254.169.254,80", "tcp,fd00:ec2::254,80"]
    forbidden = ["raw4", "raw6", "packet"]
    outcomes = attempts(vm, "one", open_ones + refused + forbidden)
    expected = ["open"] * len(open_ones) + ["refused"] * len(refused) + ["forbidden"] * len(forbidden)
    assert [outcome for outcome, word in zip(outcomes, expected) if outcome["outcome"] != word] == []
    # Under emulation everything takes longer; a timeout would take 1.5 s.
    assert [outcome for outcome in outcomes if outcome["outcome"] == "refused" and outcome["ms"] > 1000] == []


def test_the_internet_comes_and_goes_without_a_restart(vm):
    public = f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    vm("revoke", "one", "network")
    assert attempt(vm, "one", public)["outcome"] == "refused"
    vm("grant", "one", "network")
    assert attempt(vm, "one", public)["outcome"] == "open"


def test_an_address_that_this_computer_gets_later_is_out_of_reach(vm, network_probe):
    late, public = f"tcp,{LATE4},{HOST_PORT}", f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    with closing(AddressMore(LATE4)):
        assert '"outcome": "open"' in run(network_probe, "try", late), "a refusal would prove nothing"
        eventually(lambda: attempt(vm, "one", late)["outcome"] == "refused", timeout=10, what="the refusal")
        assert attempt(vm, "one", public)["outcome"] == "open"


def test_a_decision_while_the_machine_is_suspended_holds_when_it_wakes(vm):
    public = f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    for command, outcome in (("revoke", "refused"), ("grant", "open")):
        vm("machine", "stop")
        vm(command, "one", "network")
        vm("machine", "start")
        assert vm.json("machine", "status")["resumed"], "it was booted"
        assert attempt(vm, "one", public)["outcome"] == outcome


def test_a_suspended_machine_wakes_where_this_computer_is_then(vm):
    late, public = f"tcp,{LATE4},{HOST_PORT}", f"tcp,{PUBLIC4},{PUBLIC_PORT}"
    vm("machine", "stop")
    with closing(AddressMore(LATE4)):
        vm("machine", "start")
        assert vm.json("machine", "status")["resumed"], "it was booted"
        assert attempt(vm, "one", late)["outcome"] == "refused", "it was told before anybody is served"
        assert attempt(vm, "one", public)["outcome"] == "open"
