"""Puts the guest together: which files of the packages it gets, and what is ours."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import stat
from typing import Callable, Dict, List, Optional, Tuple

from .cpio import write_cpio
from .elf import Elf
from .errors import BuildError
from .modules import Modules
from .squashfs import write_squashfs
from .tree import Node, Tree, canonical

MODULES = "usr/lib/vibe/modules"
TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
ROOT_IMAGE = "root.squashfs"

# Our own programs, and where they go.
PROGRAMS = ("vibe-supervisor", "vibe-logger")
INIT = "vibe-init"

# Directories that mounts and programs expect.
_DIRECTORIES = {
    "proc": 0o555,
    "sys": 0o555,
    "dev": 0o755,
    "run": 0o755,
    "tmp": 0o1777,
    "var": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "data": 0o700,
    "root": 0o700,
    "mnt": 0o755,
    "etc": 0o755,
    "etc/cni": 0o755,
    "opt": 0o755,
}


def wanted_paths(files: List[str], kernel: List[str]) -> Callable[[str], bool]:
    """What is worth keeping of any package: named files, libraries, certificates, kernel and modules."""
    named = {canonical(f.split()[0]) for f in files}

    def wanted(path: str) -> bool:
        if path in named or any(fnmatch.fnmatch(path, k) for k in kernel):
            return True
        if path.startswith("usr/lib/modules/"):
            return ".ko" in posixpath.basename(path) or path.endswith("/modules.builtin")
        name = posixpath.basename(path)
        if path.startswith(("usr/lib/", "usr/lib64/")):
            return ".so" in name
        if path.startswith(("usr/bin/", "usr/sbin/")):
            return False
        return path.startswith("usr/share/ca-certificates/") and path.endswith(".crt")

    return wanted


class Assembly:
    """The root tree of the guest, filled from the packages' tree."""

    def __init__(self, packages: Tree, arch: str) -> None:
        self._packages = packages
        self._arch = arch
        self.root = Tree()

    def add_programs(self, files: List[str]) -> None:
        for line in files:
            words = line.split()
            source, target = canonical(words[0]), canonical(words[-1])
            resolved = self._packages.resolve(source)
            node = self._packages.get(resolved)
            if node is None or node.kind != "file":
                raise BuildError(f"{source}: no such file in the packages")
            self._add_program(target, bytes(node.data), node.mode | 0o444)  # type: ignore[arg-type]

    def _add_program(self, path: str, data: bytes, mode: int) -> None:
        self.root.add_file(path, data, mode)
        if data[:4] == b"\x7fELF":
            self._add_libraries(path, data)

    def _add_libraries(self, path: str, data: bytes) -> None:
        elf = Elf(data, "/" + path)
        elf.check_machine(self._arch)
        names, own_paths = elf.needed()
        interpreter = elf.interpreter()
        if interpreter:
            self._add_library(canonical(interpreter), path)
        for name in names:
            found = self._find_library(name, own_paths, posixpath.dirname(path))
            if found is None:
                raise BuildError(f"/{path}: needs the library {name}, which is in none of the packages")
            self._add_library(found, path)

    def _find_library(self, name: str, own_paths: List[str], origin: str) -> Optional[str]:
        folders = [
            canonical(p.replace("$ORIGIN", "/" + origin).replace("${ORIGIN}", "/" + origin))
            for p in own_paths
        ]
        folders += [f"usr/lib/{TRIPLETS[self._arch]}", "usr/lib", "usr/lib64"]
        for folder in folders:
            path = f"{folder}/{name}"
            node = self._packages.get(self._packages.resolve(path))
            if node is not None and node.kind == "file":
                return path
        return None

    def _add_library(self, path: str, who: str) -> None:
        """Under the name by which it is asked for; the chain of symlinks to it is not needed."""
        if path in self.root:
            return
        node = self._packages.get(self._packages.resolve(path))
        if node is None or node.kind != "file":
            raise BuildError(f"/{who}: needs /{path}, which is in none of the packages")
        self.root.add_file(path, bytes(node.data), 0o755)  # type: ignore[arg-type]
        self._add_libraries(path, bytes(node.data))  # type: ignore[arg-type]

    def add_certificates(self) -> None:
        """The bundle that the packages have, or one made of their single certificates."""
        bundle = "etc/ssl/certs/ca-certificates.crt"
        if bundle in self.root:
            return
        paths = [
            p
            for p in self._packages.paths()
            if p.startswith("usr/share/ca-certificates/mozilla/") and p.endswith(".crt")
        ]
        if not paths:
            raise BuildError("there are no CA certificates in the packages")
        parts = [self._packages.read(p).strip() + b"\n" for p in paths]
        self.root.add_file(bundle, b"".join(parts))

    def add_folder(self, folder: str) -> None:
        """Our own files, as they lie in vm-image/rootfs."""
        for base, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                path = os.path.join(base, name)
                with open(path, "rb") as file:
                    mode = 0o755 if os.stat(path).st_mode & stat.S_IXUSR else 0o644
                    self.root.add_file(os.path.relpath(path, folder).replace(os.sep, "/"), file.read(), mode)

    def add_own_program(self, name: str, data: bytes) -> None:
        elf = Elf(data, name)
        elf.check_machine(self._arch)
        if elf.interpreter():
            raise BuildError(
                f"{name}: is linked dynamically; the guest takes static programs only, which run on any libc"
            )
        self.root.add_file(f"usr/bin/{name}", data, 0o755)

    def add_frame(self) -> None:
        for path, mode in _DIRECTORIES.items():
            self.root.add_dir(path, mode)
        for name in ("bin", "sbin", "lib", "lib64"):
            self.root.add_dir(f"usr/{name}")
            self.root.add_symlink(name, f"usr/{name}")
        self.root.add_symlink("etc/resolv.conf", "/run/resolv.conf")
        self.root.add_symlink("etc/mtab", "/proc/self/mounts")
        self.root.add_symlink("var/run", "/run")

    def add_modules(self, groups: Dict[str, List[str]]) -> Tuple[str, Tree]:
        """Modules into the root; those of the group "root" into a tree for the initrd. Returns the version."""
        modules = Modules(self._packages)
        order, content = modules.choose(groups)
        early = Tree()
        for group, names in order.items():
            tree = early if group == "root" else self.root
            tree.add_file(f"{MODULES}/{group}.list", "".join(f"{n}.ko\n" for n in names).encode())
            for name in names:
                tree.add_file(f"{MODULES}/{name}.ko", content[name])
        return modules.version, early


def make_initrd(root: Tree, early: Tree, init: bytes, form: str) -> bytes:
    """An initrd with the root inside: as a compressed image, or unpacked."""
    initrd = Tree()
    sources = [early] if form == "squashfs" else [early, root]
    for tree in sources:
        for path, node in tree.items():
            initrd.add(path, node)
    if form == "squashfs":
        for name in ("proc", "sys", "dev", "new"):
            initrd.add_dir(name)
        initrd.add_file(ROOT_IMAGE, write_squashfs(root))
    else:
        initrd.add_dir("new")
    initrd.add("init", Node("file", 0o755, init))
    return write_cpio(initrd)
