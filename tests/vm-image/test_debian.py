"""Debian's packages from a mirror: trusted from the signed release down to each file."""

import hashlib
import lzma
import shutil
import subprocess

import pytest

from mirror import tar
from vmimage.debian import Mirror, data_tar
from vmimage.errors import BuildError
from vmimage.fetch import Cache
from vmimage.tree import Tree

pytestmark = pytest.mark.skipif(
    not shutil.which("gpg") or not shutil.which("gpgv"), reason="gpg and gpgv are not installed"
)


def ar(members):
    out = b"!<arch>\n"
    for name, data in members:
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
            + data
            + b"\n" * (len(data) % 2)
        )
    return out


def deb(files):
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz", lzma.compress(tar([("./control", b"")]))),
            ("data.tar.xz", lzma.compress(tar(files))),
        ]
    )


@pytest.fixture(scope="module")
def gpg(tmp_path_factory):
    """Returns a function that signs, and the keyring to check with."""
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    base = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    subprocess.run(
        base + ["--quick-gen-key", "tests@example.com", "rsa2048", "sign"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    keyring = home / "keyring.gpg"
    keyring.write_bytes(subprocess.run(base + ["--export"], check=True, stdout=subprocess.PIPE).stdout)
    yield lambda text: subprocess.run(
        base + ["--clearsign"], input=text, stdout=subprocess.PIPE, check=True
    ).stdout, str(keyring)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


class Archive:
    def __init__(self, folder, gpg):
        self.folder = folder / "debian"
        self.sign, self.keyring = gpg
        self.debs = {
            "pool/a/a_1.0_amd64.deb": deb([("./usr/bin/a", b"program a")]),
            "pool/b/b_2.0_amd64.deb": deb([("./usr/lib/b.so", b"library b")]),
        }
        self.packages = ""
        for path, data in self.debs.items():
            name, version, _ = path.split("/")[-1].split("_")
            needs = "Depends: b (>= 2~) | c, skipped\n" if name == "a" else "Provides: thing (= 2)\n"
            digest = hashlib.sha256(data).hexdigest()
            self.packages += f"Package: {name}\nVersion: {version}\n{needs}"
            self.packages += f"Filename: {path}\nSize: {len(data)}\nSHA256: {digest}\n\n"

    def write(self, release=None):
        index = lzma.compress(self.packages.encode())
        place = self.folder / "dists/bookworm/main/binary-amd64"
        place.mkdir(parents=True)
        (place / "Packages.xz").write_bytes(index)
        line = f"{hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages.xz"
        text = f"Origin: Debian\nSHA256:\n {line}\n"
        (self.folder / "dists/bookworm/InRelease").write_bytes(
            release(text) if release else self.sign(text.encode())
        )
        for path, data in self.debs.items():
            (self.folder / path).parent.mkdir(parents=True)
            (self.folder / path).write_bytes(data)
        return Mirror("file://" + str(self.folder), "bookworm", "x86_64", self.keyring, Cache(None))


@pytest.fixture
def archive(tmp_path, gpg):
    return Archive(tmp_path, gpg)


def unpack(mirror):
    tree = Tree()
    for package in mirror.packages(["a"], {"skipped": ""}):
        mirror.unpack(package, lambda path: True, tree)
    return tree


def test_packages_and_what_they_need(archive):
    tree = unpack(archive.write())
    assert tree.read("usr/bin/a") == b"program a" and tree.read("usr/lib/b.so") == b"library b"


def test_unsigned_release_is_refused(archive):
    mirror = archive.write(release=lambda text: text.encode())
    with pytest.raises(BuildError, match="InRelease: wrong signature"):
        unpack(mirror)


def test_changed_release_is_refused(archive):
    mirror = archive.write(
        release=lambda text: archive.sign(text.encode()).replace(b"Origin: Debian", b"Origin: Nobody")
    )
    with pytest.raises(BuildError, match="InRelease: wrong signature"):
        unpack(mirror)


def test_text_outside_of_the_signature_counts_for_nothing(archive):
    mirror = archive.write(
        release=lambda text: b"SHA256:\n 00 0 main/binary-amd64/Packages.xz\n\n" + archive.sign(text.encode())
    )
    try:
        unpack(mirror)
    except BuildError as error:
        assert "wrong signature" in str(error)


def test_changed_index_is_refused(archive):
    mirror = archive.write()
    path = archive.folder / "dists/bookworm/main/binary-amd64/Packages.xz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BuildError, match="Packages.xz: wrong checksum"):
        unpack(mirror)


def test_changed_and_truncated_packages_are_refused_by_name(archive):
    mirror = archive.write()
    path = archive.folder / "pool/b/b_2.0_amd64.deb"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    with pytest.raises(BuildError, match="b_2.0_amd64.deb: wrong checksum"):
        unpack(mirror)
    path.write_bytes(good[:-1])
    with pytest.raises(BuildError, match="b_2.0_amd64.deb: truncated"):
        unpack(mirror)


def test_missing_dependency_is_refused_by_name(archive):
    mirror = archive.write()
    with pytest.raises(BuildError, match="missing dependency: skipped, needed by a 1.0"):
        mirror.packages(["a"], {})


def test_damaged_deb():
    whole = deb([("./x", b"x")])
    assert data_tar(whole, "x.deb")
    with pytest.raises(BuildError, match="x.deb: truncated"):
        data_tar(whole[:-10], "x.deb")
    with pytest.raises(BuildError, match="x.deb: is not a Debian package"):
        data_tar(b"PK" + whole, "x.deb")
