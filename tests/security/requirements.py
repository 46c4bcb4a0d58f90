"""What the installation of the project brings along, as the installed packages tell it.

python -m tests.security.requirements: a line of constraints.txt for each.
"""

import importlib.metadata
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Requirement("busi_tune[lite0]")


def find_requirements() -> dict[str, list[Requirement]]:
    """Return every package of the closure by its canonical name, with what is asked of it."""
    asked: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [PROJECT]
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name != canonicalize_name(PROJECT.name):
            asked.setdefault(name, []).append(requirement)
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += _requirements_of(name, extras)
    return asked


def _requirements_of(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


if __name__ == "__main__":
    for name in sorted(find_requirements()):
        print(f"{name}=={importlib.metadata.version(name)}")
