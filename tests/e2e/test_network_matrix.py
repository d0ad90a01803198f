"""Who reaches whom: every cell of the table in docs/network.md, tried from inside of services of the native machine."""

from contextlib import ExitStack

import pytest

from network_matrix import Spoofing, World, plain_rows, spoofed_rows, table
from network_world import NativeMachine, attempts


@pytest.fixture(scope="module")
def world(vibe, tmp_path_factory, network_probe):
    with ExitStack() as stack:
        yield World(vibe, tmp_path_factory.mktemp("matrix"), network_probe, NativeMachine, stack)


@pytest.mark.parametrize("target, network", plain_rows())
def test_a_row_of_the_table(world, target, network):
    assert world.wrong([(target, network)]) == []


def test_who_sends_as_another_is_not_heard(world):
    assert {cell for cells in spoofed_rows().values() for cell in cells} == {"dropped"}
    spoofing = Spoofing(world)
    spoofing.send()
    assert spoofing.wrong() == []


def test_the_table_has_no_row_that_is_not_tried():
    assert {network for _, network in table()} == {"refused", "granted"}
    assert (len(plain_rows()), len(spoofed_rows())) == (30, 8), "a row came or went: see that it is meant"


def test_the_servers_that_nobody_reaches_are_there(world):
    assert world.silent_servers() == []


def test_a_service_has_no_sockets_that_make_packets_or_leave_the_machine(world):
    whats = ["raw4", "raw6", "packet", "address", "transparent", *[f"vsock,{cid},1024" for cid in (0, 1, 2, 3, 0xFFFFFFFF)]]
    for outcome in attempts(world.vibe, "online", whats):
        assert outcome["outcome"] == "forbidden", outcome


def test_no_service_may_ping_by_itself(world):
    """Of a project whose kernel nobody told otherwise."""
    for outcome in attempts(world.vibe, "other", [f"icmp,{address},0" for address in world.places["other"]["back"].addresses]):
        assert outcome["outcome"] == "forbidden", outcome
