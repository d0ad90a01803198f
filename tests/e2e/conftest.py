import os
import shutil
import tempfile
from pathlib import Path

import pytest

from network_world import build_probe
from vibe_cli import IMAGES, Vibe


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        pytest.exit("the native machine needs root: run these tests with sudo", returncode=1)
    if not (IMAGES / "probe" / "index.json").exists():
        pytest.exit("the images are missing: run examples/images/build", returncode=1)


@pytest.fixture(scope="module")
def vibe():
    """A Vibe with an empty home, shared by a module's tests: each uses project names of its own."""
    home = Path(tempfile.mkdtemp(prefix="vibe-e2e-"))
    cli = Vibe(home / "home")
    yield cli
    cli.close()
    shutil.rmtree(home)


@pytest.fixture
def fresh_vibe():
    """A Vibe of this test alone."""
    home = Path(tempfile.mkdtemp(prefix="vibe-e2e-"))
    cli = Vibe(home / "home")
    yield cli
    cli.close()
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def registry():
    """A registry on loopback that holds the examples' images."""
    from registry import Registry
    folder = tempfile.mkdtemp(prefix="vibe-registry-")
    registry = Registry(Path(folder))
    registry.push(IMAGES / "probe", "vibe-examples/probe:latest")
    yield registry
    registry.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def network_probe(tmp_path_factory):
    """The program that the network's tests try things with (network_probe.c)."""
    return build_probe(tmp_path_factory.mktemp("network_probe"))
