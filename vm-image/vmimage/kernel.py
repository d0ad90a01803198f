"""From a distribution's vmlinuz to the file that a hypervisor boots directly.

- x86_64: the bzImage as it is, which inflates itself.
- aarch64: the uncompressed Image.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import Tuple

from .debian import zstd
from .errors import BuildError

MAX_KERNEL = 256 << 20

_ARM64_MAGIC = b"ARM\x64"  # at offset 56 of an Image
_LZ4_LEGACY = b"\x02\x21\x4c\x18"


def _lz4_block(data: bytes, out: bytearray, label: str) -> None:
    """Appends one decompressed LZ4 block."""
    at, end = 0, len(data)
    try:
        while at < end:
            token = data[at]
            at += 1
            length = token >> 4
            if length == 15:
                while True:
                    more = data[at]
                    at += 1
                    length += more
                    if more != 255:
                        break
            out += data[at : at + length]
            at += length
            if at >= end:
                return
            offset = data[at] | data[at + 1] << 8
            at += 2
            length = (token & 15) + 4
            if length == 19:
                while True:
                    more = data[at]
                    at += 1
                    length += more
                    if more != 255:
                        break
            start = len(out) - offset
            if offset == 0 or start < 0:
                raise BuildError(f"{label}: damaged LZ4 data")
            if offset >= length:
                out += out[start : start + length]
            else:
                pattern = bytes(out[start:])
                out += (pattern * (length // offset + 1))[:length]
            if len(out) > MAX_KERNEL:
                raise BuildError(f"{label}: inflates to more than {MAX_KERNEL} bytes")
    except IndexError:
        raise BuildError(f"{label}: damaged LZ4 data") from None


def _lz4(data: bytes, label: str) -> bytes:
    """The legacy frame that kernels use: magic, then blocks of up to 8 MiB, each with its size in front."""
    out = bytearray()
    at = 4
    while at + 4 <= len(data):
        size = struct.unpack_from("<I", data, at)[0]
        if size == 0 or at + 4 + size > len(data):
            break  # what follows the last block: the inflated size
        _lz4_block(data[at + 4 : at + 4 + size], out, label)
        at += 4 + size
    return bytes(out)


def inflate(data: bytes, label: str) -> bytes:
    """Undoes whichever compression the data begin with."""
    try:
        if data[:2] == b"\x1f\x8b":
            return zlib.decompressobj(31).decompress(data, MAX_KERNEL)
        if data[:6] == b"\xfd7zXZ\0":
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(data, MAX_KERNEL)
        if data[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(data, MAX_KERNEL)
        if data[:3] == b"\x5d\0\0":
            return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(data, MAX_KERNEL)
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise BuildError(f"{label}: damaged compressed kernel: {error}") from None
    if data[:4] == _LZ4_LEGACY:
        return _lz4(data, label)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return zstd(data, label)
    raise BuildError(f"{label}: the kernel is compressed in a way that is not known here ({data[:4].hex()})")


def _check_bzimage(image: bytes, label: str) -> None:
    """That it is whole, by the boot protocol's header."""
    if len(image) < 0x260 or image[0x202:0x206] != b"HdrS":
        raise BuildError(f"{label}: is not an x86 kernel image")
    version = struct.unpack_from("<H", image, 0x206)[0]
    if version < 0x0208:
        raise BuildError(f"{label}: its boot protocol {version:#x} is too old")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    if length < 8 or (setup_sectors + 1) * 512 + offset + length > len(image):
        raise BuildError(f"{label}: truncated: the kernel in it ends early")


def extract_kernel(image: bytes, arch: str, label: str) -> Tuple[bytes, str]:
    """The bootable kernel and the name of its form: "bzImage" or "Image"."""
    if arch == "x86_64":
        _check_bzimage(image, label)
        return image, "bzImage"
    if image[4:8] == b"zimg":  # an EFI program around the compressed Image
        offset, size = struct.unpack_from("<II", image, 8)
        image = image[offset : offset + size]
    if image[56:60] != _ARM64_MAGIC:
        image = inflate(image, label)
    if image[56:60] != _ARM64_MAGIC:
        raise BuildError(f"{label}: has no arm64 Image in it")
    return image, "Image"
