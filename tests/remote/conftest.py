from collections.abc import Iterator
from pathlib import Path

import pytest

from busi_tune.remote.objects import Objects
from tests.s3_server import Server, run_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Objects:
    """A place in the bucket that no other test uses."""
    return server.objects(f"runs/{tmp_path.name}")
