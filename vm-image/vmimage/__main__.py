"""The command line of vm-image/build.sh."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from typing import Dict, List, Tuple, Union

from . import guest
from .alpine import DEFAULT_BRANCH, Alpine
from .debian import DEFAULT_SUITE, AptSources, Mirror
from .elf import Elf, strip_program
from .errors import BuildError
from .fetch import Cache
from .kernel import extract_kernel
from .lists import read_list
from .tree import Tree

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_args(argv: List[str]) -> argparse.Namespace:
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    parser = argparse.ArgumentParser(
        prog="build.sh",
        description="Builds the kernel and initrd of Vibe's VM from a distribution's packages.",
    )
    parser.add_argument(
        "--arch",
        choices=("x86_64", "aarch64"),
        default=machine if machine in ("x86_64", "aarch64") else "x86_64",
        help="the guest's processor (default: this machine's)",
    )
    parser.add_argument("--distro", choices=("alpine", "debian"), default="alpine")
    parser.add_argument(
        "--mirror",
        metavar="URL",
        default="",
        help="where the packages are (default: Alpine's own mirror; for Debian, what apt is set up with here)",
    )
    parser.add_argument(
        "--branch",
        default="",
        help=f"the distribution's release (default: {DEFAULT_BRANCH}; for Debian {DEFAULT_SUITE})",
    )
    parser.add_argument(
        "--keys",
        metavar="PATH",
        default="",
        help="trust these and no others: a folder of Alpine public keys, or a keyring for a Debian mirror "
        "(default: the pinned keys in vm-image/keys; Debian's archive keyring)",
    )
    parser.add_argument(
        "--bin",
        metavar="DIR",
        default=os.path.join(os.path.dirname(HOME), "build", "bin"),
        help="our own programs, linked statically (default: build/bin)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=os.path.join(os.path.dirname(HOME), "build", "vm-image"),
        help="where kernel, initrd and manifest.json go (default: build/vm-image)",
    )
    parser.add_argument("--cache", metavar="DIR", default="", help="keep downloaded packages here, by digest")
    parser.add_argument(
        "--lock", metavar="FILE", default="", help="a manifest.json: take exactly the packages in it, or fail"
    )
    parser.add_argument(
        "--root",
        choices=("squashfs", "cpio"),
        default="squashfs",
        help="how the root is packed into the initrd (default: squashfs)",
    )
    parser.add_argument(
        "--without-supervisor",
        action="store_true",
        help="leave vibe-supervisor and vibe-logger out: containerd alone",
    )
    return parser.parse_args(argv)


def repository(args: argparse.Namespace, cache: Cache) -> Union[Alpine, AptSources, Mirror]:
    if args.distro == "alpine":
        keys = args.keys or os.path.join(HOME, "keys", args.arch)
        if not os.path.isdir(keys):
            raise BuildError(f"{keys}: no such folder of public keys")
        return Alpine(args.mirror, args.branch or DEFAULT_BRANCH, args.arch, keys, cache)
    if args.mirror:
        return Mirror(args.mirror, args.branch or DEFAULT_SUITE, args.arch, args.keys or None, cache)
    return AptSources(args.arch, cache)


def check_lock(path: str, chosen: Dict[str, Dict[str, object]]) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            locked = {p["name"]: p for p in json.load(file)["packages"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{path}: is not a manifest.json of an image: {error}") from None
    for name in sorted(set(locked) | set(chosen)):
        if name not in chosen:
            raise BuildError(f"{path}: lists {name}, which is not needed any more")
        if name not in locked:
            raise BuildError(f"{path}: does not list {name}, which is needed now")
        for key in ("version", "sha256"):
            if locked[name].get(key) != chosen[name][key]:
                raise BuildError(
                    f"{path}: {name} is pinned to {key} {locked[name].get(key)}, "
                    f"the repository has {chosen[name][key]}"
                )


def read_program(folder: str, name: str, arch: str) -> bytes:
    path = os.path.join(folder, name)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read: {error.strerror}; "
            "build the programs first, or name their folder with --bin DIR"
        ) from None
    Elf(data, path).check_machine(arch)
    return strip_program(data, path)


def write_files(folder: str, files: Dict[str, bytes]) -> None:
    """All or nothing for each file; manifest.json last, so that it never describes files that are not there."""
    os.makedirs(folder, exist_ok=True)
    for name, data in files.items():
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, os.path.join(folder, name))
        except BaseException:
            os.unlink(temporary)
            raise


def describe(data: bytes, **more: object) -> Dict[str, object]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), **more}


def build(args: argparse.Namespace) -> None:
    started = time.monotonic()
    lists = read_list(os.path.join(HOME, "lists", args.distro))
    groups = read_list(os.path.join(HOME, "lists", "modules"))
    init = read_program(args.bin, guest.INIT, args.arch)
    programs: List[Tuple[str, bytes]] = []
    if not args.without_supervisor:
        programs = [(name, read_program(args.bin, name, args.arch)) for name in guest.PROGRAMS]

    source = repository(args, Cache(args.cache or None))
    packages = source.packages(lists["packages"], dict.fromkeys(lists["skip"], ""))
    tree = Tree()
    wanted = guest.wanted_paths(lists["files"], lists["kernel"])
    chosen: Dict[str, Dict[str, object]] = {}
    for package in packages:
        digest = source.unpack(package, wanted, tree)
        chosen[package.name] = {
            "name": package.name,
            "version": package.version,
            "size": package.size,
            "sha256": digest,
        }
        print(f"  {package.name} {package.version}", flush=True)
    if args.lock:
        check_lock(args.lock, chosen)

    assembly = guest.Assembly(tree, args.arch)
    assembly.add_frame()
    assembly.add_programs(lists["files"])
    assembly.add_certificates()
    assembly.add_folder(os.path.join(HOME, "rootfs"))
    for name, data in programs:
        assembly.add_own_program(name, data)
    version, early = assembly.add_modules(groups)

    images = [p for p in tree.paths() if wanted(p) and p.startswith("boot/")]
    if len(images) != 1:
        raise BuildError(f"the packages have {len(images)} kernels; there must be one")
    kernel, form = extract_kernel(tree.read(images[0]), args.arch, images[0])
    if Elf(init, guest.INIT).interpreter():
        raise BuildError(f"{guest.INIT}: is linked dynamically; it runs before there is a library")
    initrd = guest.make_initrd(assembly.root, early, init, args.root)

    manifest = {
        "format": 1,
        "arch": args.arch,
        "distro": args.distro,
        "source": source.source,
        "kernel": describe(kernel, format=form, version=version),
        "initrd": describe(initrd, root=args.root, rootSize=assembly.root.size()),
        "programs": [{"name": name, **describe(data)} for name, data in [(guest.INIT, init)] + programs],
        "packages": [chosen[name] for name in sorted(chosen)],
    }
    text = json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"
    write_files(args.out, {"kernel": kernel, "initrd": initrd, "manifest.json": text})
    total = (len(kernel) + len(initrd)) / 1e6
    print(
        f"{args.out}: kernel {version} ({form}, {len(kernel) / 1e6:.1f} MB), "
        f"initrd {len(initrd) / 1e6:.1f} MB, together {total:.1f} MB, "
        f"in {time.monotonic() - started:.0f} s"
    )


def main() -> int:
    args = parse_args(sys.argv[1:])
    try:
        build(args)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was replaced", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
