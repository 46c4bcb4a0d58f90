"""Fixtures for the whole suite."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def busi_folder() -> Path:
    """The real images beside the checkout; tests that need them are skipped without."""
    folder = Path(__file__).parents[2] / "shared" / "busi"
    if not folder.is_dir():
        pytest.skip(f"no BUSI images at {folder}")
    return folder
