"""A file tree in memory.

Packages are unpacked into one of these and never onto the builder's disk: a hostile archive has
nothing to escape into, file modes and owners need no privileges, and what is not needed costs nothing.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple, Union

from .errors import BuildError

MAX_LINKS = 40  # the kernel's own limit when it follows symlinks

# Distributions are on their way from /bin and /lib to /usr/bin and /usr/lib; the guest is there.
MERGED = ("bin", "sbin", "lib", "lib64")


@dataclass
class Node:
    kind: str  # "dir", "file" or "symlink"
    mode: int  # permission bits
    data: Union[bytes, str] = b""  # a file's content or a symlink's target


def canonical(path: str) -> str:
    """The tree's spelling of an archive's path: no leading './', and usr/ before bin, sbin, lib."""
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if parts and parts[0] in MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


class Tree:
    """Paths are relative, with '/' between parts and none in front. Parents are made when missing."""

    def __init__(self) -> None:
        self._nodes: Dict[str, Node] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def get(self, path: str) -> Optional[Node]:
        return self._nodes.get(path)

    def paths(self) -> List[str]:
        return sorted(self._nodes)

    def items(self) -> Iterator[Tuple[str, Node]]:
        """Sorted by path's parts, so that a directory comes before what is in it."""
        for path in sorted(self._nodes, key=lambda p: p.split("/")):
            yield path, self._nodes[path]

    def size(self) -> int:
        return sum(len(n.data) for n in self._nodes.values() if n.kind == "file")

    def add(self, path: str, node: Node) -> None:
        if not path:
            return
        parent = posixpath.dirname(path)
        if parent:
            above = self._nodes.get(parent)
            if above is None:
                self.add(parent, Node("dir", 0o755))
            elif above.kind != "dir":
                raise BuildError(f"{path}: {parent} is a {above.kind}, not a directory")
        old = self._nodes.get(path)
        if old is not None and "dir" in (old.kind, node.kind) and old.kind != node.kind:
            raise BuildError(f"{path}: is both a {old.kind} and a {node.kind}")
        self._nodes[path] = node

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.add(path, Node("file", mode, data))

    def add_dir(self, path: str, mode: int = 0o755) -> None:
        self.add(path, Node("dir", mode))

    def add_symlink(self, path: str, target: str) -> None:
        self.add(path, Node("symlink", 0o777, target))

    def resolve(self, path: str) -> str:
        """The path behind all symlinks, resolved within the tree; '..' stops at its root."""
        todo = canonical(path).split("/")
        done: List[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            here = "/".join(done + [part])
            node = self._nodes.get(here)
            if node is not None and node.kind == "symlink":
                links += 1
                if links > MAX_LINKS:
                    raise BuildError(f"{path}: too many symlinks")
                target = str(node.data)
                if target.startswith("/"):
                    done = []
                    target = canonical(target)
                todo = target.split("/") + todo
                continue
            done.append(part)
        return canonical("/".join(done))

    def read(self, path: str) -> bytes:
        node = self._nodes.get(self.resolve(path))
        if node is None or node.kind != "file":
            raise BuildError(f"{path}: no such file in the packages")
        return bytes(node.data)  # type: ignore[arg-type]
