"""Chooses kernel modules: the named ones and what they depend on, in an order in which they load."""

from __future__ import annotations

import gzip
import lzma
import posixpath
from typing import Dict, List, Set, Tuple

from .debian import zstd
from .elf import module_info, strip_module
from .errors import BuildError
from .tree import Tree

_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
MAX_MODULE = 64 << 20


def _name(path: str) -> str:
    """A module's name as the kernel has it: '-' and '_' are one."""
    return posixpath.basename(path).split(".ko")[0].replace("-", "_")


def _content(tree: Tree, path: str) -> bytes:
    data = tree.read(path)
    try:
        if path.endswith(".gz"):
            return gzip.decompress(data)
        if path.endswith(".xz"):
            return lzma.decompress(data)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise BuildError(f"{path}: damaged compressed module: {error}") from None
    return zstd(data, path) if path.endswith(".zst") else data


class Modules:
    """The modules in a tree's /lib/modules, of which there must be exactly one kernel version."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._paths: Dict[str, str] = {}
        self._builtin: Set[str] = set()
        versions = set()
        for path in tree.paths():
            parts = path.split("/")
            if parts[:3] != ["usr", "lib", "modules"] or len(parts) < 5:
                continue
            versions.add(parts[3])
            if path.endswith(_SUFFIXES):
                self._paths[_name(path)] = path
            elif parts[4] == "modules.builtin":
                self._builtin |= {_name(line) for line in tree.read(path).decode("utf-8", "replace").split()}
        if len(versions) != 1:
            raise BuildError(
                f"the packages have modules for {len(versions)} kernels {sorted(versions)}; there must be one"
            )
        self.version = versions.pop()
        self._loaded: Dict[str, Tuple[bytes, List[str]]] = {}

    def _load(self, name: str, who: str) -> Tuple[bytes, List[str]]:
        if name not in self._loaded:
            path = self._paths.get(name)
            if path is None:
                raise BuildError(f"kernel {self.version} has no module {name}, which {who} needs")
            module = _content(self._tree, path)
            if len(module) > MAX_MODULE:
                raise BuildError(f"{path}: is larger than a module may be")
            info = module_info(module, path)
            needs = [n for value in info.get("depends", []) for n in value.split(",") if n]
            for line in info.get("softdep", []):
                words = line.partition("pre:")[2].partition("post:")[0].split()
                # What a module would rather have first is taken along where it exists.
                needs += [w for w in words if w.replace("-", "_") in self._paths]
            self._loaded[name] = strip_module(module, path), [n.replace("-", "_") for n in needs]
        return self._loaded[name]

    def choose(self, groups: Dict[str, List[str]]) -> Tuple[Dict[str, List[str]], Dict[str, bytes]]:
        """Per group the modules in load order, and every module's content.

        Groups load at the same time, so each has all that it depends on, but for the modules of "root",
        which are there before. The kernel lets a second loader of the same module wait for the first.
        """
        order: Dict[str, List[str]] = {}
        content: Dict[str, bytes] = {}

        def visit(name: str, who: str, into: List[str], placed: Set[str]) -> None:
            if name in placed or name in self._builtin:
                return
            placed.add(name)
            module, needs = self._load(name, who)
            for need in needs:
                visit(need, name, into, placed)
            into.append(name)
            content[name] = module

        for group, names in groups.items():
            order[group] = []
            placed = set(order.get("root", []))
            for word in names:
                name = word.rstrip("?").replace("-", "_")
                if word.endswith("?") and name not in self._paths:
                    continue
                visit(name, f"lists/modules [{group}]", order[group], placed)
        return order, content
