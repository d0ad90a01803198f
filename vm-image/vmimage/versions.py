"""How the two distributions order versions. Both return a negative number, 0 or a positive one."""

from __future__ import annotations

import re
from typing import List, Tuple

_DEBIAN_NONDIGITS = re.compile(r"[^0-9]*")
_DIGITS = re.compile(r"[0-9]*")


def _sign(a: object, b: object) -> int:
    return (a > b) - (a < b)  # type: ignore[operator]


def _debian_order(char: str) -> int:
    """'~' before the end of the string, the end before letters, letters before all else."""
    if char == "~":
        return -1
    if char == "":
        return 0
    return ord(char) if char.isalpha() else ord(char) + 256


def _debian_part(a: str, b: str) -> int:
    while a or b:
        left = _DEBIAN_NONDIGITS.match(a).group()  # type: ignore[union-attr]
        right = _DEBIAN_NONDIGITS.match(b).group()  # type: ignore[union-attr]
        a, b = a[len(left) :], b[len(right) :]
        for i in range(max(len(left), len(right))):
            order = _sign(_debian_order(left[i : i + 1]), _debian_order(right[i : i + 1]))
            if order:
                return order
        left = _DIGITS.match(a).group()  # type: ignore[union-attr]
        right = _DIGITS.match(b).group()  # type: ignore[union-attr]
        a, b = a[len(left) :], b[len(right) :]
        order = _sign(int(left or "0"), int(right or "0"))
        if order:
            return order
    return 0


def compare_debian(a: str, b: str) -> int:
    def split(version: str) -> Tuple[int, str, str]:
        epoch, colon, rest = version.partition(":")
        if not colon or not epoch.isdigit():
            epoch, rest = "0", version
        upstream, dash, revision = rest.rpartition("-")
        return int(epoch), upstream if dash else rest, revision if dash else "0"

    left, right = split(a), split(b)
    return _sign(left[0], right[0]) or _debian_part(left[1], right[1]) or _debian_part(left[2], right[2])


_ALPINE = re.compile(
    r"(?P<digits>[0-9]+(?:\.[0-9]+)*)(?P<letter>[a-z]?)(?P<suffixes>(?:_[a-z]+[0-9]*)*)"
    r"(?:~(?P<commit>[0-9a-f]+))?(?:-r(?P<build>[0-9]+))?"
)
# Before the release, the release itself (0), after it.
_SUFFIXES = {
    "alpha": -4,
    "beta": -3,
    "pre": -2,
    "rc": -1,
    "": 0,
    "cvs": 1,
    "svn": 2,
    "git": 3,
    "hg": 4,
    "p": 5,
}


def compare_alpine(a: str, b: str) -> int:
    def split(version: str):
        match = _ALPINE.fullmatch(version)
        if match is None:
            return None
        digits = match["digits"].split(".")
        suffixes: List[Tuple[int, int]] = []
        for word in match["suffixes"].split("_")[1:]:
            name = word.rstrip("0123456789")
            suffixes.append((_SUFFIXES.get(name, 6), int(word[len(name) :] or "0")))
        return digits, match["letter"], suffixes + [(0, 0)], int(match["build"] or "0")

    left, right = split(a), split(b)
    if left is None or right is None:
        return _sign(a, b)
    for i, (x, y) in enumerate(zip(left[0], right[0])):
        # A part with a leading zero is a fraction: 1.05 comes before 1.1.
        if i and (x.startswith("0") or y.startswith("0")) and x != y:
            return _sign(x, y)
        if int(x) != int(y):
            return _sign(int(x), int(y))
    return (
        _sign(len(left[0]), len(right[0]))
        or _sign(left[1], right[1])
        or _sign(left[2], right[2])
        or _sign(left[3], right[3])
    )
