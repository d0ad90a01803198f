"""Reads the lists in vm-image/lists: sections in brackets, one item a line, '#' comments."""

from __future__ import annotations

from typing import Dict, List

from .errors import BuildError


def read_list(path: str) -> Dict[str, List[str]]:
    sections: Dict[str, List[str]] = {}
    section = None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            if line.startswith("[") and line.endswith("]"):
                section = sections.setdefault(line[1:-1], [])
            elif section is None:
                raise BuildError(f"{path}:{number}: an item before the first [section]")
            else:
                section.append(line)
    return sections
