"""Who reaches whom in a virtual machine: the rows of docs/network.md's table that are different there, and some that must not
be. One boot."""

import shutil
import tempfile
from pathlib import Path

import pytest

from network_world import (PUBLIC4, PUBLIC_PORT, SERVICE_PORT, Internet, Server, addresses_of, attempt, attempts,
                           gateways_of, serving, write_probe_app)
from vibe_cli import Vibe

HOST_PORT = 7644
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
    refused += [f"{protocol},{GATEWAY},{HOST_PORT}" for protocol in both]
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
