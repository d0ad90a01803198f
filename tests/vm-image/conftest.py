import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "vm-image")]

BUILD = os.path.join(ROOT, "vm-image", "build.sh")


def run_build(*args, expect=0, timeout=300):
    """Runs vm-image/build.sh as a user would; returns what it printed."""
    result = subprocess.run(
        [BUILD, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == expect, result.stdout
    return result.stdout


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """Static programs that stand for ours where what they do does not matter: the packing is under test."""
    folder = tmp_path_factory.mktemp("bin")
    source = folder / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    for name in ("vibe-init", "vibe-supervisor", "vibe-logger"):
        subprocess.run(["cc", "-static", "-o", folder / name, source], check=True)
    return str(folder)


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory):
    """A key that the tests trust and one that they do not, each as (private, public, public's name)."""
    folder = tmp_path_factory.mktemp("keys")
    keys = {}
    for name in ("trusted", "stranger"):
        private, public = folder / f"{name}.rsa", folder / f"{name}@tests-1.rsa.pub"
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(
            ["openssl", "rsa", "-in", private, "-pubout", "-out", public],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        keys[name] = (str(private), str(public), public.name)
    trusted = folder / "pinned"
    trusted.mkdir()
    shutil.copy(keys["trusted"][1], trusted)
    keys["folder"] = str(trusted)
    return keys
