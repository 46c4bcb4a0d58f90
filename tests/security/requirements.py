"""What the installation of the project brings along, as its file and the installed packages tell.

python -m tests.security.requirements: a line of constraints.txt for each.
"""

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("lite0", "aws")


def read_project() -> list[Requirement]:
    """Return what the project file asks for; the installed metadata may be older."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(file.read_text())["project"]
    lines = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in [*project["dependencies"], *lines]]


def find_requirements() -> dict[str, list[Requirement]]:
    """Return every package of the closure by its canonical name, with what is asked of it."""
    asked: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = read_project()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        asked.setdefault(name, []).append(requirement)
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += requirements_of(name, extras)
    return asked


def requirements_of(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """Give what an installed package asks for here, with some of its extras."""
    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


if __name__ == "__main__":
    for name in sorted(find_requirements()):
        print(f"{name}=={importlib.metadata.version(name)}")
