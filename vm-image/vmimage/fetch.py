"""Downloads: bounded in size, tried again when the network stumbles, kept when their digest is known."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import urllib.error
import urllib.request
from typing import Optional

from .errors import BuildError

TIMEOUT = 60
TRIES = 3
_CHUNK = 1 << 20


def download(url: str, limit: int) -> bytes:
    """The whole answer. BuildError names the URL and the cause. http, https and file URLs."""
    if not url.startswith(("http://", "https://", "file:///")):
        raise BuildError(f"{url}: only http, https and file addresses are read")
    for attempt in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return _read(answer, limit, url)
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == TRIES:
                raise BuildError(f"{url}: the server answers {error.code} {error.reason}") from None
        except (urllib.error.URLError, OSError, EOFError) as error:
            if attempt == TRIES or url.startswith("file:"):
                reason = getattr(error, "reason", error)
                raise BuildError(f"{url}: cannot be read: {reason}") from None
        time.sleep(attempt)
    raise AssertionError("not reached")


def _read(answer, limit: int, url: str) -> bytes:
    length = answer.headers.get("Content-Length")
    parts = []
    got = 0
    while True:
        chunk = answer.read(_CHUNK)
        if not chunk:
            break
        got += len(chunk)
        if got > limit:
            raise BuildError(f"{url}: is larger than the {limit} bytes that are allowed for it")
        parts.append(chunk)
    if length is not None and length.isdigit() and got < int(length):
        raise EOFError(f"truncated: {got} of {length} bytes came")
    return b"".join(parts)


class Cache:
    """Files by their SHA-256, in a folder that may be deleted at any time. None: keeps nothing."""

    def __init__(self, folder: Optional[str]) -> None:
        self._folder = folder
        if folder:
            os.makedirs(folder, exist_ok=True)

    def get(self, sha256: str) -> Optional[bytes]:
        if not self._folder:
            return None
        try:
            with open(os.path.join(self._folder, sha256), "rb") as file:
                data = file.read()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def put(self, data: bytes) -> None:
        if not self._folder:
            return
        handle, name = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, os.path.join(self._folder, hashlib.sha256(data).hexdigest()))
