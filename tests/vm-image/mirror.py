"""A small Alpine mirror: packages, index and signature, made as Alpine makes them and breakable on purpose."""

import base64
import functools
import gzip
import hashlib
import io
import os
import struct
import subprocess
import tarfile
import tempfile
import zlib


def tar(entries, end=True):
    """entries: (name, content) of files, or TarInfo objects. apk's segments but the last have no end mark."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
        size = archive.offset
    return out.getvalue() if end else out.getvalue()[:size]


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def device(name):
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 1
    return info


def pack(data):
    return gzip.compress(data, 6, mtime=0)


def sign(data, private, digest="sha1"):
    return subprocess.run(
        ["openssl", "dgst", "-" + digest, "-sign", private], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


class Apk:
    """One package. `tamper` changes the file after the index was made from it."""

    def __init__(
        self, name, version="1.0-r0", files=(), depends="", provides="", tamper=None, repository="main"
    ):
        self.name, self.version, self.depends, self.provides = name, version, depends, provides
        self.repository = repository
        data = pack(tar(files))
        info = f"pkgname = {name}\npkgver = {version}\ndatahash = {hashlib.sha256(data).hexdigest()}\n"
        control = pack(tar([(".PKGINFO", info.encode())], end=False))
        signature = pack(
            tar(
                [(".SIGN.RSA.somebody.rsa.pub", b"not looked at: the index vouches for the package")],
                end=False,
            )
        )
        self.good = signature + control + data
        self.parts = (signature, control, data)
        self.checksum = "Q1" + base64.b64encode(hashlib.sha1(control).digest()).decode()
        self.file = tamper(self) if tamper else self.good

    def stanza(self):
        lines = [
            f"C:{self.checksum}",
            f"P:{self.name}",
            f"V:{self.version}",
            "A:x86_64",
            f"S:{len(self.good)}",
            f"D:{self.depends}",
            f"p:{self.provides}",
        ]
        return "\n".join(line for line in lines if not line.endswith(":")) + "\n"


def index(packages):
    text = "\n".join(p.stanza() for p in packages) + "\n"
    return pack(tar([("DESCRIPTION", b"tests"), ("APKINDEX", text.encode())]))


def write_mirror(folder, packages, key, arch="x86_64", digest="sha1", change_index=None):
    """Writes the mirror and returns its URL. change_index gets the signed index's bytes."""
    private, _, name = key
    for repository in ("main", "community"):
        place = os.path.join(folder, "v3.22", repository, arch)
        os.makedirs(place, exist_ok=True)
        mine = [p for p in packages if p.repository == repository]
        content = index(mine)
        kind = {"sha1": "RSA", "sha256": "RSA256"}[digest]
        whole = pack(tar([(f".SIGN.{kind}.{name}", sign(content, private, digest))], end=False)) + content
        if change_index and repository == "main":
            whole = change_index(whole)
        with open(os.path.join(place, "APKINDEX.tar.gz"), "wb") as file:
            file.write(whole)
        for package in mine:
            with open(os.path.join(place, f"{package.name}-{package.version}.apk"), "wb") as file:
                file.write(package.file)
    return "file://" + str(folder)


_WORK = tempfile.TemporaryDirectory()
WORK = _WORK.name  # of this run: what is compiled once serves all tests


@functools.lru_cache(maxsize=None)
def compile_c(name, source, *flags):
    folder = WORK
    path, out = os.path.join(folder, name + ".c"), os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    subprocess.run(["cc", "-o", out, path, *flags], check=True)
    with open(out, "rb") as file:
        return file.read()


def module(name, depends=""):
    """An object file with a module's .modinfo, and debug data as kernels' modules have it."""
    source = f"""static const char info[] __attribute__((section(".modinfo"), used)) =
    "name={name}\\0depends={depends}\\0license=GPL";
int work(int x) {{ return x + 1; }}
int (*hook)(int) = work;
"""
    return compile_c(name + ".o", source, "-c", "-g", "-O1")


KERNEL = b"a kernel" * 1000


def bzimage(kernel):
    payload = zlib.compressobj(9, zlib.DEFLATED, 31)
    payload = payload.compress(kernel) + payload.flush()
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x020F)
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    return bytes(image) + payload


MODULES = {
    "loop": "",
    "squashfs": "",
    "overlay": "",
    "virtio_pci": "virtio",
    "virtio": "",
    "virtio_blk": "virtio",
    "crc32c_generic": "",
    "btrfs": "raid6_pq,xor",
    "raid6_pq": "",
    "xor": "",
    "virtio_net": "virtio",
    "vmw_vsock_virtio_transport": "",
    "virtio-rng": "virtio",
    "virtio_balloon": "virtio",
    "evdev": "",
    "bridge": "",
    "veth": "",
    "nf_tables": "",
    "nft_chain_nat": "nf_tables",
    "nft_ct": "nf_tables",
    "nft_fib_inet": "nf_tables",
    "nft_masq": "nf_tables",
    "nft_meta_bridge": "nf_tables",
    "nft_nat": "nf_tables",
    "nft_reject_inet": "nf_tables",
}

LOADER = "lib/ld-musl-x86_64.so.1"


def guest_packages(**changes):
    """Packages with all that an image needs, by name. `changes` gives Apk arguments to replace."""
    library = compile_c(
        "libthing.so.1.0",
        "int thing(void) { return 1; }\n",
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-Wl,-soname,libthing.so.1",
    )
    program = compile_c(
        "program",
        "int thing(void);\nvoid _start(void) { thing(); for (;;) {} }\n",
        "-nostdlib",
        "-pie",
        "-fPIE",
        os.path.join(WORK, "libthing.so.1.0"),
        "-Wl,--dynamic-linker=/" + LOADER,
    )
    root = "lib/modules/6.12.1-0-virt"
    modules = [
        (f"{root}/kernel/{name}.ko.gz", gzip.compress(module(name.replace("-", "_"), depends), mtime=0))
        for name, depends in MODULES.items()
    ]
    wanted = {
        "linux-virt": dict(
            files=[
                ("boot/vmlinuz-virt", bzimage(KERNEL)),
                (f"{root}/modules.builtin", b"kernel/drivers/virtio/virtio_ring.ko\n"),
            ]
            + modules,
            depends="initramfs-generator",
        ),
        "containerd": dict(
            files=[
                ("usr/bin/containerd", program),
                ("usr/bin/containerd-shim-runc-v2", program),
                ("usr/bin/ctr", program),
            ],
            depends="so:libthing.so.1 runc>=1",
            repository="community",
        ),
        "crun": dict(files=[("usr/bin/crun", program)], depends="so:libthing.so.1", repository="community"),
        "cni-plugins": dict(
            files=[
                (f"usr/libexec/cni/{n}", program) for n in ("bridge", "host-local", "loopback", "portmap", "static")
            ],
            depends="so:libthing.so.1",
            repository="community",
        ),
        "nftables": dict(files=[("usr/sbin/nft", program)], depends="libthing>=1.0 libthing<2"),
        "btrfs-progs": dict(files=[("sbin/mkfs.btrfs", program)], depends="so:libthing.so.1 !btrfs-old"),
        "ca-certificates-bundle": dict(files=[("etc/ssl/certs/ca-certificates.crt", b"certificates\n")]),
        "libthing": dict(
            files=[("usr/lib/libthing.so.1.0", library), link("usr/lib/libthing.so.1", "libthing.so.1.0")],
            provides="so:libthing.so.1=1.0",
            depends="musl",
            version="1.2-r3",
        ),
        "musl": dict(files=[(LOADER, library)]),
    }
    for name, change in changes.items():
        name = name.replace("_", "-")
        wanted[name] = {**wanted.get(name, {}), **change}
    return [Apk(name, **arguments) for name, arguments in wanted.items()]
