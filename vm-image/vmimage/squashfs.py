"""Writes a squashfs 4.0 image: compressed, read-only, the same bytes for the same tree.

Written here because no tool for it is at hand on every builder's machine, and since the part that an image
needs is small: directories, files and symlinks owned by root, without times, xattrs or fragments.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List, Tuple

from .errors import BuildError
from .tree import Tree

BLOCK = 128 << 10
_METADATA = 8192
_STORED_BLOCK = 1 << 24
_STORED_METADATA = 1 << 15
_NONE = (1 << 64) - 1
_ZSTD = 6  # the compressor's number in the image

_DIR, _FILE, _SYMLINK = 1, 2, 3


class _MetadataWriter:
    """A stream cut into compressed blocks of 8 KiB; positions in it are (block start, offset) pairs."""

    def __init__(self) -> None:
        self._done: List[bytes] = []
        self._written = 0
        self._open = bytearray()

    def position(self) -> Tuple[int, int]:
        return self._written, len(self._open)

    def write(self, data: bytes) -> None:
        self._open += data
        while len(self._open) >= _METADATA:
            self._flush(self._open[:_METADATA])
            del self._open[:_METADATA]

    def _flush(self, block: bytes) -> None:
        # Stored: all of it is a few dozen KB, and the compressor takes whole files.
        part = struct.pack("<H", len(block) | _STORED_METADATA) + bytes(block)
        self._done.append(part)
        self._written += len(part)

    def finish(self) -> bytes:
        if self._open:
            self._flush(bytes(self._open))
            self._open.clear()
        return b"".join(self._done)


def _zstd(blocks: List[bytes]) -> List[bytes]:
    """Each block as a Zstandard frame of its own, with a window no larger than the block: the kernel asks for that."""
    if shutil.which("zstd") is None:
        raise BuildError("the root cannot be packed; install the program zstd, or use --root cpio")
    with tempfile.TemporaryDirectory() as folder:
        for number, block in enumerate(blocks):
            with open(os.path.join(folder, str(number)), "wb") as file:
                file.write(block)

        def run(numbers: range) -> None:
            command = ["zstd", "-q", "-15", "--single-thread", "--no-check", *map(str, numbers)]
            result = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, check=False)
            if result.returncode != 0:
                reason = result.stderr.decode("utf-8", "replace").strip()
                raise BuildError(f"the root cannot be packed: zstd: {reason}")

        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, (r for r in (range(i, len(blocks), workers) for i in range(workers)) if r)))
        packed = []
        for number in range(len(blocks)):
            with open(os.path.join(folder, f"{number}.zst"), "rb") as file:
                packed.append(file.read())
        return packed


def _pack(blocks: List[bytes]) -> List[Tuple[bytes, int]]:
    """What is written of each block, and its size as the image has it."""
    packed = iter(_zstd([block for block in blocks if block.strip(b"\0")]))
    result = []
    for block in blocks:
        if not block.strip(b"\0"):
            result.append((b"", 0))  # a hole
            continue
        small = next(packed)
        result.append((small, len(small)) if len(small) < len(block) else (block, len(block) | _STORED_BLOCK))
    return result


class _Writer:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._children: Dict[str, List[str]] = {"": []}
        for path, node in tree.items():
            parent, _, name = path.rpartition("/")
            self._children[parent].append(name)
            if node.kind == "dir":
                self._children[path] = []
        self._data: List[bytes] = []
        self._inodes = _MetadataWriter()
        self._directories = _MetadataWriter()
        self._count = 0
        self._numbers: Dict[str, int] = {"": 1}
        for i, path in enumerate(self._numbering(""), start=2):
            self._numbers[path] = i

    def _numbering(self, path: str) -> List[str]:
        result = []
        for name in sorted(self._children[path], key=str.encode):
            child = f"{path}/{name}" if path else name
            result.append(child)
            if child in self._children:
                result += self._numbering(child)
        return result

    def _pack_files(self) -> Dict[str, Tuple[int, List[int]]]:
        """Writes all files' blocks; returns where each file's begin and their sizes."""
        jobs: List[Tuple[str, bytes]] = []
        for path, node in self._tree.items():
            if node.kind == "file":
                data = bytes(node.data)  # type: ignore[arg-type]
                jobs += [(path, data[i : i + BLOCK]) for i in range(0, len(data), BLOCK)]
        at = 96
        found: Dict[str, Tuple[int, List[int]]] = {}
        for (path, _), (packed, size) in zip(jobs, _pack([block for _, block in jobs])):
            found.setdefault(path, (at, []))[1].append(size)
            self._data.append(packed)
            at += len(packed)
        return found

    def _inode(self, kind: int, mode: int, number: int, body: bytes) -> Tuple[int, int]:
        position = self._inodes.position()
        self._inodes.write(struct.pack("<HHHHII", kind, mode, 0, 0, 0, number) + body)
        self._count += 1
        return position

    def _write(
        self, path: str, parent: int, blocks: Dict[str, Tuple[int, List[int]]]
    ) -> Tuple[Tuple[int, int], int]:
        """Writes an inode and, before it, all that is below it. Returns its position and type."""
        number = self._numbers[path]
        node = self._tree.get(path)
        if path in self._children:
            return self._write_directory(path, parent, node.mode if node else 0o755, blocks), _DIR
        assert node is not None
        if node.kind == "symlink":
            target = str(node.data).encode()
            return (
                self._inode(_SYMLINK, node.mode, number, struct.pack("<II", 1, len(target)) + target),
                _SYMLINK,
            )
        start, sizes = blocks.get(path, (0, []))
        if start >= 1 << 32 or len(node.data) >= 1 << 32:
            raise BuildError(f"{path}: the image grows over 4 GiB")
        body = struct.pack("<IIII", start, 0xFFFFFFFF, 0, len(node.data)) + struct.pack(
            f"<{len(sizes)}I", *sizes
        )
        return self._inode(_FILE, node.mode, number, body), _FILE

    def _write_directory(
        self, path: str, parent: int, mode: int, blocks: Dict[str, Tuple[int, List[int]]]
    ) -> Tuple[int, int]:
        number = self._numbers[path]
        entries = []
        for name in sorted(self._children[path], key=str.encode):
            child = f"{path}/{name}" if path else name
            position, kind = self._write(child, number, blocks)
            entries.append((name.encode(), position, kind, self._numbers[child]))
        where = self._directories.position()
        listing = b""
        at = 0
        while at < len(entries):
            # One header serves up to 256 entries whose inodes lie in the same block and whose numbers are near.
            first = entries[at]
            run = [e for e in entries[at : at + 256]]
            for i, entry in enumerate(run):
                if entry[1][0] != first[1][0] or not -32768 <= entry[3] - first[3] <= 32767:
                    run = run[:i]
                    break
            listing += struct.pack("<III", len(run) - 1, first[1][0], first[3])
            for name, position, kind, entry_number in run:
                listing += (
                    struct.pack("<HhHH", position[1], entry_number - first[3], kind, len(name) - 1) + name
                )
            at += len(run)
        if len(listing) + 3 > 0xFFFF:
            raise BuildError(f"/{path}: too many files in one directory")
        self._directories.write(listing)
        subdirectories = sum(1 for e in entries if e[2] == _DIR)
        body = struct.pack("<IIHHI", where[0], subdirectories + 2, len(listing) + 3, where[1], parent)
        return self._inode(_DIR, mode, number, body)

    def image(self) -> bytes:
        blocks = self._pack_files()
        # The root's parent has the number that follows all others, by convention.
        root, _ = self._write("", len(self._numbers) + 1, blocks)
        data = b"".join(self._data)
        inodes, directories = self._inodes.finish(), self._directories.finish()
        inode_table = 96 + len(data)
        directory_table = inode_table + len(inodes)
        ids = directory_table + len(directories)
        id_block = struct.pack("<HI", 4 | _STORED_METADATA, 0)
        id_table = ids + len(id_block)
        end = id_table + 8
        flags = 0x0010 | 0x0200  # no fragments, no xattrs
        head = struct.pack(
            "<IIIIIHHHHHHQQQQQQQQ",
            0x73717368,
            self._count,
            0,
            BLOCK,
            0,
            _ZSTD,
            BLOCK.bit_length() - 1,
            flags,
            1,
            4,
            0,
            root[0] << 16 | root[1],
            end,
            id_table,
            _NONE,
            inode_table,
            directory_table,
            _NONE,
            _NONE,
        )
        out = head + data + inodes + directories + id_block + struct.pack("<Q", ids)
        return out + b"\0" * (-len(out) % 4096)


def write_squashfs(tree: Tree) -> bytes:
    return _Writer(tree).image()
