"""The image from Alpine's packages: made from what is signed and whole, and from nothing else."""

import hashlib
import json
import os
import struct
import subprocess
import tarfile

import pytest

from conftest import run_build
from mirror import KERNEL, Apk, bzimage, device, guest_packages, index, link, pack, tar, write_mirror
from vmimage.archive import gunzip
from vmimage.errors import BuildError
from vmimage.kernel import extract_kernel


class Setup:
    def __init__(self, folder, keys, programs):
        self.folder, self.keys, self.programs = folder, keys, programs
        self.out = folder / "out"

    def mirror(self, key="trusted", **options):
        changes = options.pop("changes", {})
        extra = options.pop("extra", [])
        return write_mirror(
            self.folder / "mirror", guest_packages(**changes) + extra, self.keys[key], **options
        )

    def build(self, url, *args, expect=0):
        return run_build(
            "--distro",
            "alpine",
            "--arch",
            "x86_64",
            "--mirror",
            url,
            "--keys",
            self.keys["folder"],
            "--bin",
            self.programs,
            "--out",
            str(self.out),
            *args,
            expect=expect,
        )

    def refused(self, url, *args):
        output = self.build(url, *args, expect=1)
        assert not self.out.exists(), "a refused build left files behind"
        assert output.count("error: ") == 1 and "Traceback" not in output, output
        return output


@pytest.fixture
def setup(tmp_path, signing_keys, programs):
    return Setup(tmp_path, signing_keys, programs)


def read_cpio(data):
    """Name to (mode, content) of a newc archive."""
    entries, at = {}, 0
    while True:
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += (110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return entries
        entries[name] = (fields[1], data[at : at + fields[6]])
        at += (fields[6] + 3) // 4 * 4


def test_builds_an_image_from_signed_packages(setup):
    output = setup.build(setup.mirror())
    assert "libthing 1.2-r3" in output
    manifest = json.loads((setup.out / "manifest.json").read_text())
    assert {p["name"] for p in manifest["packages"]} >= {"linux-virt", "containerd", "musl", "libthing"}
    for name in ("kernel", "initrd"):
        data = (setup.out / name).read_bytes()
        assert manifest[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert manifest[name]["size"] == len(data)
    assert manifest["kernel"]["format"] == "bzImage" and manifest["kernel"]["version"] == "6.12.1-0-virt"
    assert (setup.out / "kernel").read_bytes() == bzimage(KERNEL)
    entries = read_cpio((setup.out / "initrd").read_bytes())
    assert entries["init"][1][:4] == b"\x7fELF"
    assert entries["root.squashfs"][1][:4] == b"hsqs"
    assert entries["usr/lib/vibe/modules/root.list"][1] == b"loop.ko\nsquashfs.ko\noverlay.ko\n"


def test_root_has_what_is_needed_and_no_more(setup):
    setup.build(setup.mirror(), "--root", "cpio")
    entries = read_cpio((setup.out / "initrd").read_bytes())
    for path in (
        "usr/bin/containerd",
        "usr/lib/cni/bridge",
        "usr/lib/libthing.so.1",
        "usr/lib/ld-musl-x86_64.so.1",
        "usr/sbin/mkfs.btrfs",
        "usr/bin/vibe-supervisor",
        "etc/ssl/certs/ca-certificates.crt",
    ):
        assert path in entries, f"{path} is missing"
    for path in ("usr/bin/ctr", "usr/lib/cni/portmap", "usr/lib/libthing.so.1.0"):
        assert path not in entries, f"{path} is of no use in the guest"
    # Each group loads by itself, dependencies first.
    assert entries["usr/lib/vibe/modules/disk.list"][1].split()[-3:] == [
        b"raid6_pq.ko",
        b"xor.ko",
        b"btrfs.ko",
    ]
    module = entries["usr/lib/vibe/modules/btrfs.ko"][1]
    assert b"depends=raid6_pq,xor" in module and b".debug_info" in module and b"GNU C" not in module


def test_two_runs_give_the_same_bytes(setup):
    url = setup.mirror()
    setup.build(url)
    first = {f: (setup.out / f).read_bytes() for f in os.listdir(setup.out)}
    setup.out = setup.out.parent / "another" / "place"
    setup.build(url)
    assert {f: (setup.out / f).read_bytes() for f in os.listdir(setup.out)} == first


def test_lock_holds_versions(setup):
    setup.build(setup.mirror())
    lock = setup.folder / "lock.json"
    (setup.out / "manifest.json").rename(lock)
    setup.build(setup.mirror(), "--lock", str(lock))
    newer = setup.mirror(changes={"crun": {"version": "1.1-r0"}})
    output = setup.build(newer, "--lock", str(lock), expect=1)
    assert "crun is pinned to version 1.0-r0, the repository has 1.1-r0" in output


def test_sha256_signatures_count_too(setup):
    setup.build(setup.mirror(digest="sha256"))


def test_wrong_signature_is_refused(setup):
    def forge(whole):
        return whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:]

    output = setup.refused(setup.mirror(change_index=forge))
    assert "main/x86_64/APKINDEX.tar.gz: wrong signature" in output


def test_signature_of_an_unknown_key_is_refused(setup):
    output = setup.refused(setup.mirror(key="stranger"))
    assert "is signed by stranger@tests-1.rsa.pub, which is not a pinned key" in output


def test_unsigned_index_is_refused(setup):
    output = setup.refused(
        setup.mirror(change_index=lambda whole: pack(tar([("README", b"")], end=False)) + index([]))
    )
    assert "APKINDEX.tar.gz: is not signed" in output


def test_alpines_own_keys_are_pinned(setup):
    output = run_build(
        "--arch",
        "x86_64",
        "--mirror",
        setup.mirror(),
        "--bin",
        setup.programs,
        "--out",
        str(setup.out),
        expect=1,
    )
    assert "which is not a pinned key in" in output


def other_control(package):
    """The same length, another control part: another build of the same version."""
    signature, control, data = package.parts
    other = pack(tar([(".PKGINFO", b"pkgname = crun\npkgver = 1.0-r0\n")], end=False))
    return (signature + other + data + b"\0" * len(control))[: len(package.good)]


def other_data(package):
    signature, control, data = package.parts
    return signature + control + data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize(
    "tamper, words",
    [
        (other_control, "crun-1.0-r0.apk: wrong checksum: it is not the package that the index lists"),
        (other_data, "crun-1.0-r0.apk: wrong checksum: its files are not those that its control part lists"),
        (lambda p: p.good[:-100], "crun-1.0-r0.apk: truncated"),
        (lambda p: p.good + b"x", "crun-1.0-r0.apk: is"),
        (lambda p: b"", "crun-1.0-r0.apk: truncated"),
    ],
)
def test_damaged_package_is_refused_by_name(setup, tamper, words):
    assert words in setup.refused(setup.mirror(changes={"crun": {"tamper": tamper}}))


def test_missing_dependency_is_refused_by_name(setup):
    output = setup.refused(setup.mirror(changes={"crun": {"depends": "so:libmissing.so.3"}}))
    assert "missing dependency: so:libmissing.so.3, needed by crun 1.0-r0" in output


def test_version_that_does_not_fit_is_refused_by_name(setup):
    output = setup.refused(setup.mirror(changes={"nftables": {"depends": "libthing>=2"}}))
    assert "missing dependency: libthing >= 2, needed by nftables 1.0-r0" in output


def test_conflict_is_refused_by_name(setup):
    output = setup.refused(setup.mirror(changes={"crun": {"depends": "btrfs-old"}}, extra=[Apk("btrfs-old")]))
    assert "conflict: btrfs-progs 1.0-r0 excludes btrfs-old, but btrfs-old 1.0-r0 is needed too" in output


def test_missing_library_is_refused_by_name(setup):
    output = setup.refused(setup.mirror(changes={"libthing": {"files": [("usr/share/nothing", b"")]}}))
    assert "needs the library libthing.so.1, which is in none of the packages" in output


def test_package_that_the_mirror_lacks(setup):
    url = setup.mirror()
    os.unlink(setup.folder / "mirror/v3.22/community/x86_64/crun-1.0-r0.apk")
    assert "crun-1.0-r0.apk: cannot be read" in setup.refused(url)


def test_mirror_that_does_not_answer(setup):
    assert "http://127.0.0.1:1/" in setup.refused("http://127.0.0.1:1/alpine")


HOSTILE = {
    "dotdot": ([("../../etc/passwd", b"x")], "path '../../etc/passwd' leaves the archive"),
    "inner dotdot": ([("usr/../../x", b"x")], "leaves the archive"),
    "absolute": ([("/etc/passwd", b"x")], "absolute path '/etc/passwd'"),
    "symlink up": ([link("usr/lib/up", "../../../etc")], "leaves the root"),
    "through a symlink": (
        [link("usr/share/way", "/etc"), ("usr/share/way/passwd", b"x")],
        "goes through the symlink 'usr/share/way'",
    ),
    "hard link": (
        [link("usr/bin/crun", "etc/shadow", tarfile.LNKTYPE)],
        "hard link 'usr/bin/crun' to a file that is not there",
    ),
    "device": ([device("dev/mem")], "'dev/mem' is a device"),
    "control characters": ([("usr/bin/a\nb", b"x")], "control characters"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused_by_name(setup, name):
    files, words = HOSTILE[name]
    output = setup.refused(setup.mirror(changes={"crun": {"files": files}}))
    assert "crun-1.0-r0.apk: hostile archive: " in output and words in output


def test_archive_that_inflates_without_end_is_refused():
    with pytest.raises(BuildError, match="bomb: hostile archive: inflates to more than 1000000 bytes"):
        gunzip(pack(b"\0" * 2_000_000), 1_000_000, "bomb")


def test_dynamic_program_of_ours_is_refused(setup, programs):
    folder = setup.folder / "bin"
    folder.mkdir()
    for name in os.listdir(programs):
        (folder / name).write_bytes(open(os.path.join(programs, name), "rb").read())
    subprocess.run(["cc", "-o", folder / "vibe-supervisor", f"{programs}/program.c"], check=True)
    setup.programs = str(folder)
    assert "vibe-supervisor: is linked dynamically" in setup.refused(setup.mirror())


def test_truncated_kernel_is_refused():
    with pytest.raises(BuildError, match="vmlinuz: truncated"):
        extract_kernel(bzimage(KERNEL)[:-9], "x86_64", "vmlinuz")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda i: i,
        pack,
        lambda i: b"MZ\0\0zimg" + struct.pack("<II", 64, len(pack(i))) + b"\0" * 48 + pack(i),
    ],
)
def test_arm64_image_is_found_in_its_wrappings(wrap):
    image = b"\0" * 56 + b"ARM\x64" + b"kernel" * 100
    assert extract_kernel(wrap(image), "aarch64", "vmlinuz") == (image, "Image")
