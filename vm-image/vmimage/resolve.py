"""Which packages a set of names needs. The same for both distributions; they differ in how versions
compare and in how an index is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Set, Tuple

from .errors import BuildError


@dataclass(frozen=True)
class Need:
    """A name and, when `op` is not empty, which versions of it will do: < <= = >= > ~ (starts with)."""

    name: str
    op: str = ""
    version: str = ""

    def __str__(self) -> str:
        return self.name + (f" {self.op} {self.version}" if self.op else "")


@dataclass
class Package:
    name: str
    version: str
    filename: str  # below the repository's URL
    size: int
    checksum: str  # "sha256:<hex>", or Alpine's "Q1<base64>"
    needs: List[List[Need]] = field(default_factory=list)  # each list: one of these
    conflicts: List[Need] = field(default_factory=list)
    provides: List[Tuple[str, str]] = field(default_factory=list)  # name and version ("" for none)
    priority: int = 0  # the higher provider wins
    repository: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


Compare = Callable[[str, str], int]


def fits(need: Need, version: str, compare: Compare) -> bool:
    if not need.op:
        return True
    if not version:
        return False  # something provided without a version meets no demand for one
    if need.op == "~":
        return (
            version == need.version
            or version.startswith(need.version + ".")
            or version.startswith(need.version + "-")
            or version.startswith(need.version + "_")
        )
    order = compare(version, need.version)
    return {"<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">": order > 0}[need.op]


class Resolver:
    def __init__(self, packages: List[Package], compare: Compare) -> None:
        self._compare = compare
        self._by_name: Dict[str, List[Package]] = {}
        self._providers: Dict[str, List[Tuple[Package, str]]] = {}
        for package in packages:
            self._by_name.setdefault(package.name, []).append(package)
            for name, version in package.provides:
                self._providers.setdefault(name, []).append((package, version))

    def _meets(self, package: Package, need: Need) -> bool:
        if package.name == need.name and fits(need, package.version, self._compare):
            return True
        return any(n == need.name and fits(need, v, self._compare) for n, v in package.provides)

    def _newest(self, candidates: List[Package]) -> Optional[Package]:
        best: Optional[Package] = None
        for package in candidates:
            if best is None or self._compare(package.version, best.version) > 0:
                best = package
        return best

    def _candidate(self, need: Need) -> Optional[Package]:
        named = self._newest(
            [p for p in self._by_name.get(need.name, []) if fits(need, p.version, self._compare)]
        )
        if named is not None:
            return named
        providers = [p for p, v in self._providers.get(need.name, []) if fits(need, v, self._compare)]
        if not providers:
            return None
        providers.sort(key=lambda p: (-p.priority, p.name))
        first = providers[0]
        return self._newest([p for p in providers if p.name == first.name])

    def resolve(self, wanted: List[str], skip: Set[str]) -> List[Package]:
        """All packages that `wanted` need, sorted by name. Names in `skip` count as there already."""
        chosen: Dict[str, Package] = {}
        todo: List[Tuple[List[Need], str]] = [([Need(name)], "the package list") for name in sorted(wanted)]
        checks: List[Tuple[List[Need], str]] = []
        while todo:
            needs, who = todo.pop(0)
            if any(n.name in skip for n in needs):
                continue
            checks.append((needs, who))
            if any(self._meets(p, n) for n in needs for p in chosen.values()):
                continue
            found: Optional[Package] = None
            for need in needs:
                found = self._candidate(need)
                if found is not None:
                    break
            if found is None:
                what = " or ".join(str(n) for n in needs)
                raise BuildError(f"missing dependency: {what}, needed by {who}, is in no repository")
            if found.name in chosen:
                what = " or ".join(str(n) for n in needs)
                raise BuildError(f"{who} needs {what}, but {chosen[found.name]} was chosen for others")
            chosen[found.name] = found
            todo.extend((n, str(found)) for n in found.needs)
        for needs, who in checks:
            if not any(self._meets(p, n) for n in needs for p in chosen.values()):
                raise BuildError(
                    f"{who} needs {' or '.join(str(n) for n in needs)}, which does not fit the others' demands"
                )
        for package in chosen.values():
            for conflict in package.conflicts:
                for other in chosen.values():
                    if other is not package and self._meets(other, conflict):
                        raise BuildError(
                            f"conflict: {package} excludes {conflict}, but {other} is needed too"
                        )
        return [chosen[name] for name in sorted(chosen)]
