"""A run fetched over a line that is slow, or from a storage that is silent for a while."""

from pathlib import Path
from typing import Any

import pytest

from busi_tune.remote import fetch as fetch_module
from busi_tune.remote import objects as objects_module
from busi_tune.remote.fetch import fetch_run
from busi_tune.remote.head import read_head
from busi_tune.remote.objects import Objects
from busi_tune.remote.run import StoredRun
from tests.remote.folders import write
from tests.s3_server import Server, slow_line


@pytest.fixture
def prefix(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run in the storage, of a large file and its configuration."""
    folder = write(tmp_path / "run", config__yaml="seed: 0\n", images__csv="0" * 300_000)
    StoredRun(server.uri(tmp_path.name), folder, 0).begin()
    monkeypatch.setattr(objects_module, "ANSWER_SECONDS", 3.0)
    return f"{tmp_path.name}/run"


def test_a_large_file_has_the_time_that_it_needs(
    server: Server, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "BYTES_PER_SECOND", 50_000)
    monkeypatch.setattr(fetch_module, "PATIENCE_SECONDS", 0.0)
    with slow_line(server.port, 50_000) as port:
        fetched = fetch_run(server.uri(prefix, port=port), tmp_path / "elsewhere")
    assert (fetched / "images.csv").stat().st_size == 300_000


def test_a_storage_that_is_silent_for_a_while_is_waited_for(
    server: Server, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_in_silence(objects: Objects) -> Any:
        with server.silent_until_warned_of():
            return read_head(objects)

    monkeypatch.setattr(fetch_module, "read_head", read_in_silence)
    fetched = fetch_run(server.uri(prefix), tmp_path / "elsewhere")
    assert (fetched / "config.yaml").read_text() == "seed: 0\n"
