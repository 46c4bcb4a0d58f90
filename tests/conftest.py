"""Fixtures for the whole suite."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import Server, run_server

# Tests run side by side, and tiny networks on several threads wait more than they compute. Set
# before torch is imported, and inherited by every command that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Clusters of the tests ask for a token. Ray reads this once, when the first test module imports it.
os.environ["RAY_AUTH_MODE"] = "token"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes long first, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: not (item.get_closest_marker("ray") or "mypy" in item.name))


@pytest.fixture(scope="session")
def busi_folder() -> Path:
    """The real images beside the checkout; tests that need them are skipped without."""
    folder = Path(__file__).parents[2] / "shared" / "busi"
    if not folder.is_dir():
        pytest.skip(f"no BUSI images at {folder}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep decoded images of the tests out of the user's cache; one for all, to decode once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUSI_TUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A bucket for all tests of a process."""
    with run_server(tmp_path_factory.mktemp("server")) as server:
        yield server
