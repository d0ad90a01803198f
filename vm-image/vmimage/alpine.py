"""Alpine's repositories: a signed index, and packages that the index vouches for.

An .apk is up to three gzip streams one after the other: signature, control (with .PKGINFO) and data. The
index gives the SHA-1 of the control stream, .PKGINFO the SHA-256 of the data stream. The index itself is a
signature stream and a stream that it signs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import tempfile
from typing import Callable, Dict, List, Tuple

from .archive import extract, gunzip
from .errors import BuildError
from .fetch import Cache, download
from .resolve import Need, Package, Resolver
from .tree import Tree
from .versions import compare_alpine

DEFAULT_MIRROR = "https://dl-cdn.alpinelinux.org/alpine"
DEFAULT_BRANCH = "v3.22"
REPOSITORIES = ("main", "community")

MAX_INDEX = 64 << 20
MAX_PACKAGE = 512 << 20
MAX_INFLATED = 1 << 30

_NEED = re.compile(r"(?P<name>[^<>=~]+)(?:(?P<op><=|>=|<|>|=|~=?|=~)(?P<version>.+))?")


def _need(token: str) -> Need:
    match = _NEED.fullmatch(token)
    if match is None:
        raise BuildError(f"APKINDEX: cannot read the dependency {token!r}")
    # A name may carry '@tag' for a tagged repository; there are none here.
    name = match["name"].split("@")[0]
    op = match["op"] or ""
    return Need(name, "~" if "~" in op else op, match["version"] or "")


def parse_index(text: str, repository: str) -> List[Package]:
    packages = []
    for block in text.split("\n\n"):
        fields: Dict[str, str] = {}
        for line in block.split("\n"):
            if len(line) > 2 and line[1] == ":":
                fields[line[0]] = line[2:]
        if not fields:
            continue
        try:
            name, version, checksum, size = fields["P"], fields["V"], fields["C"], int(fields["S"])
        except (KeyError, ValueError):
            raise BuildError(
                f"{repository}/APKINDEX: a package has no name, version, checksum or size"
            ) from None
        if not re.fullmatch(r"[A-Za-z0-9._+@-]+", name) or not re.fullmatch(r"[A-Za-z0-9._+~-]+", version):
            raise BuildError(f"{repository}/APKINDEX: hostile package name or version: {name!r} {version!r}")
        needs, conflicts = [], []
        for token in fields.get("D", "").split():
            if token.startswith("!"):
                conflicts.append(_need(token[1:]))
            else:
                needs.append([_need(token)])
        provides = []
        for token in fields.get("p", "").split():
            provided = _need(token)
            provides.append((provided.name, provided.version))
        priority = fields.get("k", "0")
        packages.append(
            Package(
                name,
                version,
                f"{name}-{version}.apk",
                size,
                checksum,
                needs,
                conflicts,
                provides,
                int(priority) if priority.isdigit() else 0,
                repository,
            )
        )
    return packages


def verify_signature(key: str, signed: bytes, signature: bytes, digest: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "signature")
        with open(file, "wb") as out:
            out.write(signature)
        result = subprocess.run(
            ["openssl", "dgst", "-" + digest, "-verify", key, "-signature", file],
            input=signed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return result.returncode == 0


def read_index(data: bytes, url: str, keys: str, repository: str) -> List[Package]:
    """Parses APKINDEX.tar.gz after its signature was found to be of one of the keys in the folder."""
    signatures, used = gunzip(data, 1 << 20, url)
    tree = Tree()
    extract(signatures, url, lambda path: path.startswith(".SIGN."), tree)
    signed = data[used:]
    seen = []
    good = False
    for path, node in tree.items():
        match = re.fullmatch(r"\.SIGN\.(RSA|RSA256)\.([A-Za-z0-9@._+-]+)", path)
        if match is None or node.kind != "file":
            continue
        seen.append(match[2])
        key = os.path.join(keys, match[2])
        if not os.path.isfile(key):
            continue
        if not verify_signature(key, signed, bytes(node.data), "sha256" if match[1] == "RSA256" else "sha1"):
            raise BuildError(f"{url}: wrong signature: it is not what the key {match[2]} signed")
        good = True
    if not seen:
        raise BuildError(f"{url}: is not signed")
    if not good:
        raise BuildError(f"{url}: is signed by {', '.join(seen)}, which is not a pinned key in {keys}")
    inflated, used = gunzip(signed, MAX_INDEX * 4, url)
    if signed[used:].strip(b"\0"):
        raise BuildError(f"{url}: has data after its end")
    content = Tree()
    extract(inflated, url, lambda path: path == "APKINDEX", content)
    return parse_index(content.read("APKINDEX").decode("utf-8", "replace"), repository)


def read_package(data: bytes, package: Package) -> Tuple[bytes, Dict[str, str]]:
    """The package's data as a tar, and its .PKGINFO, after all checks."""
    label = package.filename
    if len(data) < package.size:
        raise BuildError(f"{label}: truncated: {len(data)} of {package.size} bytes")
    if len(data) > package.size:
        raise BuildError(f"{label}: is {len(data)} bytes long where the index says {package.size}")
    start = 0
    inflated, used = gunzip(data, MAX_INFLATED, label)
    if b".SIGN." in inflated[:100]:
        start = used
        inflated, used = gunzip(data[start:], MAX_INFLATED, label)
    control, rest = data[start : start + used], data[start + used :]
    if not package.checksum.startswith("Q1"):
        raise BuildError(f"{label}: the index has a checksum of an unknown kind: {package.checksum[:8]}")
    if base64.b64encode(hashlib.sha1(control).digest()).decode() != package.checksum[2:]:
        raise BuildError(f"{label}: wrong checksum: it is not the package that the index lists")
    tree = Tree()
    extract(inflated, label, lambda path: path == ".PKGINFO", tree)
    info: Dict[str, str] = {}
    for line in tree.read(".PKGINFO").decode("utf-8", "replace").split("\n"):
        key, equals, value = line.partition(" = ")
        if equals and not line.startswith("#"):
            info.setdefault(key.strip(), value.strip())
    if info.get("pkgname") != package.name or info.get("pkgver") != package.version:
        raise BuildError(f"{label}: says that it is {info.get('pkgname')} {info.get('pkgver')}")
    if not rest:
        return b"\0" * 1024, info  # a package without files
    if hashlib.sha256(rest).hexdigest() != info.get("datahash"):
        raise BuildError(f"{label}: wrong checksum: its files are not those that its control part lists")
    content, used = gunzip(rest, MAX_INFLATED, label)
    return content, info


class Alpine:
    """One branch of a mirror, for one architecture."""

    name = "alpine"

    def __init__(self, mirror: str, branch: str, arch: str, keys: str, cache: Cache) -> None:
        self._base = f"{(mirror or DEFAULT_MIRROR).rstrip('/')}/{branch}"
        self._arch = arch
        self._keys = keys
        self._cache = cache
        self.source = f"{self._base} {arch}"

    def packages(self, wanted: List[str], skip: Dict[str, str]) -> List[Package]:
        every: List[Package] = []
        for repository in REPOSITORIES:
            url = f"{self._base}/{repository}/{self._arch}/APKINDEX.tar.gz"
            every += read_index(download(url, MAX_INDEX), url, self._keys, repository)
        return Resolver(every, compare_alpine).resolve(wanted, set(skip))

    def unpack(self, package: Package, wanted: Callable[[str], bool], tree: Tree) -> str:
        """Fetches, checks and unpacks; returns the SHA-256 of the file."""
        data = download(f"{self._base}/{package.repository}/{self._arch}/{package.filename}", MAX_PACKAGE)
        content, _ = read_package(data, package)
        extract(content, package.filename, lambda path: not path.startswith(".") and wanted(path), tree)
        return hashlib.sha256(data).hexdigest()
