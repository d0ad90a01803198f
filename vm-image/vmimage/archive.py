"""Reads a package's tar archive into a tree, and trusts nothing in it."""

from __future__ import annotations

import io
import posixpath
import tarfile
import zlib
from typing import Callable, Dict, List, Tuple

from .errors import BuildError
from .tree import Node, Tree, canonical

MAX_ENTRIES = 200_000
MAX_FILE = 512 << 20
MAX_TOTAL = 2 << 30
MAX_NAME = 4096


def check_name(name: str, package: str) -> None:
    """Refuses a name that could mean anything outside the archive's own tree."""
    if not name or len(name) > MAX_NAME or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise BuildError(f"{package}: hostile archive: a name is empty, too long or has control characters")
    if name.startswith("/"):
        raise BuildError(f"{package}: hostile archive: absolute path {name!r}")
    if ".." in name.split("/"):
        raise BuildError(f"{package}: hostile archive: path {name!r} leaves the archive")


def check_link(name: str, target: str, package: str) -> None:
    """A symlink may point anywhere within the root; a relative one may not climb above it."""
    if not target or len(target) > MAX_NAME or any(ord(c) < 32 or ord(c) == 127 for c in target):
        raise BuildError(f"{package}: hostile archive: symlink {name!r} has a bad target")
    depth = (
        0
        if target.startswith("/")
        else len([p for p in posixpath.dirname(name).split("/") if p not in ("", ".")])
    )
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                raise BuildError(
                    f"{package}: hostile archive: symlink {name!r} to {target!r} leaves the root"
                )
        elif part not in ("", "."):
            depth += 1


def extract(tar: bytes, package: str, wanted: Callable[[str], bool], tree: Tree) -> int:
    """Adds what is wanted of an uncompressed tar to the tree; returns how many entries were added.

    Every entry is checked, wanted or not. `wanted` gets canonical paths.
    """
    links: List[str] = []  # symlinks of this archive: no entry may lie behind one
    files: Dict[str, Tuple[int, bytes]] = {}
    added = entries = total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
            for member in archive:
                entries += 1
                total += max(member.size, 0)
                if entries > MAX_ENTRIES or member.size > MAX_FILE or total > MAX_TOTAL:
                    raise BuildError(
                        f"{package}: hostile archive: {member.name!r} goes over the limits on size or count"
                    )
                if member.name in (".", "./"):
                    continue
                check_name(member.name, package)
                path = canonical(member.name)
                for link in links:
                    if path.startswith(link + "/"):
                        raise BuildError(
                            f"{package}: hostile archive: {member.name!r} goes through the symlink {link!r}"
                        )
                if member.isdir():
                    continue  # directories come with what is in them
                if member.issym():
                    check_link(member.name, member.linkname, package)
                    links.append(path)
                    if wanted(path):
                        tree.add_symlink(path, member.linkname)
                        added += 1
                elif member.islnk():
                    check_name(member.linkname, package)
                    original = canonical(member.linkname)
                    if wanted(path):
                        if original not in files:
                            raise BuildError(
                                f"{package}: hostile archive: hard link {member.name!r} "
                                "to a file that is not there before it"
                            )
                        mode, data = files[original]
                        tree.add(path, Node("file", mode, data))
                        added += 1
                elif member.isfile():
                    source = archive.extractfile(member)
                    data = source.read() if source else b""
                    if len(data) != member.size:
                        raise BuildError(f"{package}: truncated: {member.name!r} ends early")
                    files[path] = (member.mode & 0o7777, data)
                    if wanted(path):
                        tree.add(path, Node("file", member.mode & 0o7777, data))
                        added += 1
                else:
                    raise BuildError(
                        f"{package}: hostile archive: {member.name!r} is a device or another special file"
                    )
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        raise BuildError(f"{package}: not a readable archive: {error}") from None
    return added


def gunzip(data: bytes, limit: int, package: str) -> Tuple[bytes, int]:
    """Inflates the first gzip stream in data; returns it and how many compressed bytes it took."""
    engine = zlib.decompressobj(31)
    try:
        out = engine.decompress(data, limit + 1)
    except zlib.error as error:
        raise BuildError(f"{package}: damaged compressed data: {error}") from None
    if len(out) > limit:
        raise BuildError(f"{package}: hostile archive: inflates to more than {limit} bytes")
    if not engine.eof:
        raise BuildError(f"{package}: truncated: its compressed data end early")
    return out, len(data) - len(engine.unused_data)
