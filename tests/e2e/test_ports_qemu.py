"""Forwarded ports of a virtual machine, by each way that leads into one: what test_ports.py promises of connections on the
native machine holds there as well, whatever the way itself can carry. One boot for each."""

import json

import pytest

from test_machine_qemu import end, make
from test_ports import load_app
from test_ports import (  # noqa: F401
    test_a_client_that_never_reads_stops_the_service_and_nobody_else, test_a_reset_is_passed_on_in_both_directions,
    test_a_reset_reaches_a_service_that_does_not_read, test_a_reset_reaches_the_service,
    test_a_service_that_ends_its_sending_first_still_hears_the_client,
    test_an_end_of_sending_is_passed_on_and_the_answer_still_comes, test_udp_is_forwarded_on_both_addresses,
    test_what_is_open_ends_when_the_ports_are_taken_back, test_what_went_through_is_counted)


@pytest.fixture(scope="module", params=["vsock", "serial"])
def vibe(request):
    cli = make(transport=request.param, VIBE_MACHINE_MEMORY="1GiB")
    cli("machine", "start")
    boot = json.loads((cli.home / "machine" / "qemu" / "run" / "boot.json").read_text())
    assert (boot["transport"] == "virtio-serial") == (request.param == "serial")
    yield cli
    end(cli)


@pytest.fixture(scope="module")
def app(vibe, tmp_path_factory):
    return vibe.open(load_app(tmp_path_factory.mktemp("ports") / "ports"), name="ports")
