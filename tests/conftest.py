"""Fixtures for the whole suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest


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
