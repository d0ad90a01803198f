"""Debian's packages, from one of two places:

- the sources that apt has on this machine: apt has checked the indexes' signatures, and apt-get downloads;
- a mirror given with --mirror: InRelease is checked with gpgv against the Debian archive's keyring, and the
  digests chain from there to each package.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from .archive import MAX_TOTAL, extract
from .errors import BuildError
from .fetch import Cache, download
from .resolve import Need, Package, Resolver
from .tree import Tree
from .versions import compare_debian

DEFAULT_SUITE = "bookworm"
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

MAX_RELEASE = 8 << 20
MAX_INDEX = 256 << 20
MAX_PACKAGE = 512 << 20

_NEED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::[a-z0-9]+)?"
    r"\s*(?:\((?P<op><<|<=|=|>=|>>|<|>)\s*(?P<version>[^)\s]+)\s*\))?"
    r"(?:\s*\[[^]]*\])?"
)


def _needs(text: str) -> List[List[Need]]:
    result = []
    for group in text.split(","):
        choices = []
        for choice in group.split("|"):
            match = _NEED.fullmatch(choice.strip())
            if match is None:
                continue
            op = {"<<": "<", ">>": ">"}.get(match["op"] or "", match["op"] or "")
            choices.append(Need(match["name"], op, match["version"] or ""))
        if choices:
            result.append(choices)
    return result


def stanzas(text: str) -> Iterator[Dict[str, str]]:
    for block in re.split(r"\n\n+", text):
        fields: Dict[str, str] = {}
        key = ""
        for line in block.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[key] = fields.get(key, "") + "\n" + line
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields


def parse_package(block: str, repository: str) -> Optional[Package]:
    """None for a stanza without a file to fetch."""
    fields = next(stanzas(block), {})
    try:
        name, version = fields["Package"], fields["Version"]
        filename, size, sha256 = fields["Filename"], int(fields["Size"]), fields["SHA256"].lower()
    except (KeyError, ValueError):
        return None
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", name) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BuildError(f"{repository}: hostile entry for {name!r}")
    if filename.startswith("/") or ".." in filename.split("/"):
        raise BuildError(f"{repository}: hostile file name for {name}: {filename!r}")
    needs = _needs(", ".join(fields[f] for f in ("Pre-Depends", "Depends") if f in fields))
    conflicts = [
        n
        for group in _needs(", ".join(fields[f] for f in ("Conflicts", "Breaks") if f in fields))
        for n in group
    ]
    provides = [(n.name, n.version) for group in _needs(fields.get("Provides", "")) for n in group]
    return Package(
        name,
        version,
        filename,
        size,
        "sha256:" + sha256,
        needs,
        [c for c in conflicts if c.name != name and (c.name, "") not in provides],
        provides,
        0,
        repository,
    )


_NAME = re.compile(r"^Package: *(\S+)", re.MULTILINE)
_PROVIDES = re.compile(r"^Provides: *(.+)", re.MULTILINE)


def reachable(indexes: List[Tuple[str, str]], wanted: List[str], skip: Dict[str, str]) -> List[Package]:
    """The packages of (text, repository) indexes that `wanted` could come to need. The rest, which is nearly
    all of an archive, is not even parsed."""
    blocks: Dict[str, List[Tuple[str, str]]] = {}
    for text, repository in indexes:
        for block in text.split("\n\n"):
            name = _NAME.search(block)
            if name is None:
                continue
            blocks.setdefault(name[1], []).append((block, repository))
            provides = _PROVIDES.search(block)
            if provides is not None:
                for group in _needs(provides[1]):
                    blocks.setdefault(group[0].name, []).append((block, repository))
    packages: Dict[Tuple[str, str], Package] = {}
    seen = set(skip)
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for block, repository in blocks.get(name, []):
            package = parse_package(block, repository)
            if package is None or (package.name, package.version) in packages:
                continue
            packages[package.name, package.version] = package
            todo += [need.name for group in package.needs for need in group]
    return list(packages.values())


def _decompress(data: bytes, name: str) -> bytes:
    try:
        if name.endswith(".xz"):
            return lzma.decompress(data)
        if name.endswith(".gz"):
            return gzip.decompress(data)
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise BuildError(f"{name}: damaged compressed data: {error}") from None
    return data


def data_tar(deb: bytes, label: str) -> bytes:
    """The uncompressed data.tar of a .deb, which is an ar archive of three members."""
    if not deb.startswith(b"!<arch>\n"):
        raise BuildError(f"{label}: is not a Debian package")
    at = 8
    while at + 60 <= len(deb):
        header = deb[at : at + 60]
        name = header[:16].decode("ascii", "replace").rstrip(" /")
        size_text = header[48:58].decode("ascii", "replace").strip()
        if header[58:] != b"`\n" or not size_text.isdigit():
            raise BuildError(f"{label}: damaged: an archive header cannot be read")
        size = int(size_text)
        body = deb[at + 60 : at + 60 + size]
        if len(body) != size:
            raise BuildError(f"{label}: truncated: {name} ends early")
        at += 60 + size + size % 2
        if not name.startswith("data.tar"):
            continue
        if name == "data.tar.xz":
            return _inflate(lzma.LZMADecompressor(format=lzma.FORMAT_XZ), body, label)
        if name == "data.tar.gz":
            return _decompress(body, name)
        if name == "data.tar":
            return body
        if name == "data.tar.zst":
            return zstd(body, label)
        raise BuildError(f"{label}: {name} is compressed in a way that is not known here")
    raise BuildError(f"{label}: truncated: it has no files in it")


def _inflate(engine, body: bytes, label: str) -> bytes:
    try:
        out = engine.decompress(body, MAX_TOTAL + 1)
    except lzma.LZMAError as error:
        raise BuildError(f"{label}: damaged compressed data: {error}") from None
    if len(out) > MAX_TOTAL:
        raise BuildError(f"{label}: hostile archive: inflates to more than {MAX_TOTAL} bytes")
    if not engine.eof:
        raise BuildError(f"{label}: truncated: its compressed data end early")
    return out


def zstd(body: bytes, label: str) -> bytes:
    """The standard library has no Zstandard before Python 3.14; the zstd program stands in."""
    if shutil.which("zstd") is None:
        raise BuildError(f"{label}: is compressed with Zstandard; install the program zstd")
    result = subprocess.run(
        ["zstd", "-dc", "--memory=256MB"],
        input=body,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    if result.returncode != 0:
        raise BuildError(
            f"{label}: damaged compressed data: {result.stderr.decode('utf-8', 'replace').strip()}"
        )
    return result.stdout


def _check(data: bytes, sha256: str, size: int, label: str) -> None:
    if len(data) < size:
        raise BuildError(f"{label}: truncated: {len(data)} of {size} bytes")
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise BuildError(f"{label}: wrong checksum: it is not the file that the index lists")


class _Repository:
    """What both places have in common."""

    name = "debian"

    def __init__(self, arch: str, cache: Cache) -> None:
        self._arch = ARCHITECTURES[arch]
        self._cache = cache
        self.source = ""

    def _indexes(self) -> List[Tuple[str, str]]:
        """Texts of package indexes whose origin was checked, each with its repository's name."""
        raise NotImplementedError

    def _fetch(self, package: Package) -> bytes:
        raise NotImplementedError

    def packages(self, wanted: List[str], skip: Dict[str, str]) -> List[Package]:
        names = [name.replace("@ARCH@", self._arch) for name in wanted]
        packages = reachable(self._indexes(), names, skip)
        return Resolver(packages, compare_debian).resolve(names, set(skip))

    def unpack(self, package: Package, wanted: Callable[[str], bool], tree: Tree) -> str:
        sha256 = package.checksum.split(":")[1]
        label = os.path.basename(package.filename)
        data = self._cache.get(sha256)
        if data is None:
            data = self._fetch(package)
            _check(data, sha256, package.size, label)
            self._cache.put(data)
        extract(data_tar(data, label), label, wanted, tree)
        return sha256


class AptSources(_Repository):
    """apt's own lists and downloads on a Debian machine; works without root."""

    def __init__(self, arch: str, cache: Cache) -> None:
        super().__init__(arch, cache)
        self.source = f"apt {self._arch}"

    def _run(self, args: List[str], folder: Optional[str] = None) -> bytes:
        env = dict(os.environ, LC_ALL="C")
        result = subprocess.run(
            args,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            check=False,
        )
        if result.returncode != 0:
            raise BuildError(f"{args[0]} failed: {result.stderr.decode('utf-8', 'replace').strip()}")
        return result.stdout

    def _indexes(self) -> List[Tuple[str, str]]:
        listing = self._run(
            [
                "apt-get",
                "indextargets",
                "--format",
                "$(ORIGIN)\t$(ARCHITECTURE)\t$(TRUSTED)\t$(FILENAME)\t$(RELEASE)",
                "Created-By: Packages",
            ]
        ).decode()
        indexes: List[Tuple[str, str]] = []
        for line in listing.splitlines():
            origin, arch, trusted, filename, release = (line.split("\t") + [""] * 5)[:5]
            if origin != "Debian" or arch != self._arch:
                continue
            if trusted != "yes":
                raise BuildError(f"{filename}: apt does not trust this index")
            text = self._run(["/usr/lib/apt/apt-helper", "cat-file", filename]).decode("utf-8", "replace")
            indexes.append((text, release))
        if not indexes:
            raise BuildError(
                f"apt has no Debian package lists for {self._arch} here; "
                "run 'apt-get update' as root, or give a mirror with --mirror URL"
            )
        return indexes

    def _fetch(self, package: Package) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            self._run(
                [
                    "apt-get",
                    "-q",
                    "-o",
                    "APT::Sandbox::User=",
                    "download",
                    f"{package.name}:{self._arch}={package.version}",
                ],
                folder,
            )
            files = [f for f in os.listdir(folder) if f.endswith(".deb")]
            if len(files) != 1:
                raise BuildError(f"{package}: apt-get downloaded {len(files)} files")
            with open(os.path.join(folder, files[0]), "rb") as file:
                return file.read()


class Mirror(_Repository):
    """A mirror, checked from its signed InRelease down."""

    def __init__(self, mirror: str, suite: str, arch: str, keyring: Optional[str], cache: Cache) -> None:
        super().__init__(arch, cache)
        self._mirror = mirror.rstrip("/")
        self._suite = suite
        self._keyring = keyring
        self.source = f"{self._mirror} {suite} {self._arch}"

    def _signed(self, data: bytes, url: str) -> str:
        """The text that the signature covers, and nothing around it."""
        keyring = self._keyring or next((k for k in KEYRINGS if os.path.exists(k)), "")
        if not keyring or shutil.which("gpgv") is None:
            raise BuildError(
                f"{url}: cannot be checked; install gpgv and debian-archive-keyring, "
                "or name a keyring with --keys FILE"
            )
        with tempfile.TemporaryDirectory() as folder:
            source, text = os.path.join(folder, "in"), os.path.join(folder, "out")
            with open(source, "wb") as file:
                file.write(data)
            result = subprocess.run(
                ["gpgv", "--keyring", os.path.abspath(keyring), "--output", text, source],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if result.returncode != 0 or not os.path.exists(text):
                lines = result.stdout.decode("utf-8", "replace").strip().splitlines()
                raise BuildError(f"{url}: wrong signature: {lines[-1] if lines else 'gpgv refuses it'}")
            with open(text, encoding="utf-8", errors="replace") as file:
                return file.read()

    def _indexes(self) -> List[Tuple[str, str]]:
        url = f"{self._mirror}/dists/{self._suite}/InRelease"
        release = next(stanzas(self._signed(download(url, MAX_RELEASE), url)), {})
        listed: Dict[str, Tuple[str, int]] = {}
        for line in release.get("SHA256", "").split("\n"):
            words = line.split()
            if len(words) == 3 and words[1].isdigit():
                listed[words[2]] = (words[0], int(words[1]))
        for extension in (".xz", ".gz", ""):
            name = f"main/binary-{self._arch}/Packages{extension}"
            if name not in listed:
                continue
            sha256, size = listed[name]
            data = download(f"{self._mirror}/dists/{self._suite}/{name}", MAX_INDEX)
            _check(data, sha256, size, f"{self._mirror}/dists/{self._suite}/{name}")
            return [(_decompress(data, name).decode("utf-8", "replace"), self._suite)]
        raise BuildError(f"{url}: lists no packages for {self._arch}")

    def _fetch(self, package: Package) -> bytes:
        return download(f"{self._mirror}/{package.filename}", MAX_PACKAGE)
