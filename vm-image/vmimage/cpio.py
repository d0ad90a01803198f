"""Writes a "newc" cpio archive, the format of an initrd: sorted, owned by root, without times."""

from __future__ import annotations

import stat
from typing import List

from .tree import Tree

_TYPES = {"dir": stat.S_IFDIR, "file": stat.S_IFREG, "symlink": stat.S_IFLNK}


def _entry(
    number: int, name: str, mode: int, data: bytes = b"", links: int = 1, device: "tuple[int, int]" = (0, 0)
) -> List[bytes]:
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, device[0], device[1], len(raw), 0)
    header = b"070701" + b"".join(b"%08X" % f for f in fields)
    return [header, raw, b"\0" * (-(len(header) + len(raw)) % 4), data, b"\0" * (-len(data) % 4)]


def write_cpio(tree: Tree) -> bytes:
    """The archive, with /dev/console in it: the kernel opens that before anybody could have made it."""
    parts: List[bytes] = []
    number = 0
    for path, node in tree.items():
        number += 1
        data = node.data.encode() if isinstance(node.data, str) else node.data
        parts += _entry(number, path, _TYPES[node.kind] | node.mode, data, 2 if node.kind == "dir" else 1)
    if "dev" not in tree:
        number += 1
        parts += _entry(number, "dev", stat.S_IFDIR | 0o755, b"", 2)
    parts += _entry(number + 1, "dev/console", stat.S_IFCHR | 0o600, b"", 1, (5, 1))
    parts += _entry(0, "TRAILER!!!", 0)
    out = b"".join(parts)
    return out + b"\0" * (-len(out) % 512)
