from pathlib import Path

import pytest

from busi_tune.remote.objects import Objects
from tests.s3_server import Server


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Objects:
    """A place in the bucket that no other test uses."""
    return server.objects(f"runs/{tmp_path.name}")
