"""The little of ELF that an image needs: what a program loads, what a module is, and modules made small."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Tuple

from .errors import BuildError

MACHINES = {"x86_64": 62, "aarch64": 183}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
_SHT_NULL, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 0, 4, 8, 9
_SHF_ALLOC = 2


@dataclass
class Section:
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    header: bytes


class Elf:
    """A 64-bit little-endian ELF file. BuildError when it is not one, or damaged."""

    def __init__(self, data: bytes, label: str) -> None:
        self.data = data
        self.label = label
        if data[:4] != b"\x7fELF" or len(data) < 64:
            raise BuildError(f"{label}: is not an ELF file")
        if data[4] != 2 or data[5] != 1:
            raise BuildError(f"{label}: is not 64-bit little-endian ELF")
        (
            self.type,
            self.machine,
            _,
            _,
            self.phoff,
            self.shoff,
            _,
            _,
            self.phentsize,
            self.phnum,
            self.shentsize,
            self.shnum,
            self.shstrndx,
        ) = struct.unpack_from("<HHIQQQIHHHHHH", data, 16)

    def check_machine(self, arch: str) -> None:
        if self.machine != MACHINES[arch]:
            raise BuildError(f"{self.label}: is not built for {arch}")

    def _slice(self, offset: int, size: int) -> bytes:
        if offset + size > len(self.data):
            raise BuildError(f"{self.label}: damaged ELF: something lies beyond its end")
        return self.data[offset : offset + size]

    def _segments(self) -> List[Tuple[int, int, int, int]]:
        result = []
        for i in range(self.phnum):
            header = self._slice(self.phoff + i * self.phentsize, 56)
            kind, _, offset, address, _, size, _, _ = struct.unpack("<IIQQQQQQ", header)
            result.append((kind, offset, address, size))
        return result

    def interpreter(self) -> str:
        """The dynamic loader's path; empty for a static program."""
        for kind, offset, _, size in self._segments():
            if kind == _PT_INTERP:
                return self._slice(offset, size).rstrip(b"\0").decode("utf-8", "replace")
        return ""

    def needed(self) -> Tuple[List[str], List[str]]:
        """The libraries that it names, and its own search path (RUNPATH or RPATH)."""
        segments = self._segments()
        dynamic = next(((o, s) for k, o, _, s in segments if k == _PT_DYNAMIC), None)
        if dynamic is None:
            return [], []
        entries = [
            struct.unpack_from("<QQ", self._slice(dynamic[0] + i, 16)) for i in range(0, dynamic[1] - 15, 16)
        ]
        values: Dict[int, int] = dict(entries)
        strings = b""
        for kind, offset, address, size in segments:
            table = values.get(_DT_STRTAB, 0)
            if kind == _PT_LOAD and address <= table < address + size:
                strings = self._slice(offset + table - address, values.get(_DT_STRSZ, 0))

        def string(at: int) -> str:
            return strings[at : strings.find(b"\0", at)].decode("utf-8", "replace")

        paths = (
            string(values[_DT_RUNPATH])
            if _DT_RUNPATH in values
            else string(values[_DT_RPATH]) if _DT_RPATH in values else ""
        )
        return [string(v) for t, v in entries if t == _DT_NEEDED], [p for p in paths.split(":") if p]

    def sections(self) -> List[Section]:
        raw = []
        for i in range(self.shnum):
            header = self._slice(self.shoff + i * self.shentsize, 64)
            raw.append((struct.unpack("<IIQQQQIIQQ", header), header))
        if not raw or self.shstrndx >= len(raw):
            raise BuildError(f"{self.label}: damaged ELF: no section names")
        names = self._slice(raw[self.shstrndx][0][4], raw[self.shstrndx][0][5])
        return [
            Section(
                names[f[0] : names.find(b"\0", f[0])].decode("utf-8", "replace"),
                f[1],
                f[2],
                f[4],
                f[5],
                f[6],
                f[7],
                f[8],
                header,
            )
            for f, header in raw
        ]


def module_info(module: bytes, label: str) -> Dict[str, List[str]]:
    """A kernel module's .modinfo: key to values, in order."""
    elf = Elf(module, label)
    info: Dict[str, List[str]] = {}
    for section in elf.sections():
        if section.name == ".modinfo":
            for item in module[section.offset : section.offset + section.size].split(b"\0"):
                key, equals, value = item.decode("utf-8", "replace").partition("=")
                if equals:
                    info.setdefault(key, []).append(value)
    return info


def strip_program(data: bytes, label: str) -> bytes:
    """A program without what is not loaded into memory: symbols and debug data, and the table of sections."""
    elf = Elf(data, label)
    end = max(
        [64 + elf.phnum * elf.phentsize]
        + [offset + size for kind, offset, _, size in elf._segments() if kind == _PT_LOAD]
    )
    out = bytearray(elf._slice(0, end))
    struct.pack_into("<Q", out, 40, 0)
    struct.pack_into("<HHH", out, 58, 0, 0, 0)
    return bytes(out)


def strip_module(module: bytes, label: str) -> bytes:
    """The module without debug data, BTF and appended signature.

    Sections keep their numbers, so that no symbol or relocation has to change: what goes is left as an empty
    section of no type. The kernel ignores those.
    """
    elf = Elf(module, label)
    sections = elf.sections()

    def goes(index: int) -> bool:
        section = sections[index]
        if index == 0 or section.flags & _SHF_ALLOC:
            return False
        if section.type in (_SHT_RELA, _SHT_REL) and section.info < len(sections):
            return goes(section.info)
        return section.name.startswith((".debug", ".BTF", ".zdebug")) or section.name in (
            ".comment",
            ".note.GNU-stack",
        )

    out = bytearray(module[:64])
    headers = []
    for index, section in enumerate(sections):
        fields = list(struct.unpack("<IIQQQQIIQQ", section.header))
        if goes(index):
            fields = [0, _SHT_NULL, 0, 0, 0, 0, 0, 0, 0, 0]
        elif section.type not in (_SHT_NULL, _SHT_NOBITS):
            out += b"\0" * (-len(out) % max(section.align, 1))
            fields[4] = len(out)
            out += module[section.offset : section.offset + section.size]
        headers.append(struct.pack("<IIQQQQIIQQ", *fields))
    out += b"\0" * (-len(out) % 8)
    struct.pack_into("<Q", out, 40, len(out))
    for header in headers:
        out += header
    return bytes(out)
