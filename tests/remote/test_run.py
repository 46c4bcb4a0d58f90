"""A run in the storage, and its way to another machine."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from busi_tune.remote.fetch import fetch_run
from busi_tune.remote.objects import StorageError
from busi_tune.remote.run import StoredRun
from tests.remote.folders import write
from tests.s3_server import Server


def make_run(folder: Path) -> Path:
    folder.mkdir()
    write(folder, config__yaml="seed: 0\n", lock="", study__backup__db="none of this")
    write(folder / "figures", curve__svg="<svg/>")
    return folder


def open_database(path: Path) -> sqlite3.Connection:
    """Make a database whose only row lies in its write-ahead log while it is open."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE trials (number)")
    connection.execute("INSERT INTO trials VALUES (7)")
    connection.commit()
    return connection


def read_numbers(path: Path) -> list[tuple[int]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT number FROM trials").fetchall()


def test_a_run_goes_on_elsewhere_and_not_in_two_places(server: Server, tmp_path: Path) -> None:
    storage = server.uri(tmp_path.name)
    run_dir = make_run(tmp_path / "run")
    first = StoredRun(storage, run_dir, 0)
    first.check(resume=False)
    with contextlib.closing(open_database(run_dir / "study.db")):
        first.begin()
    there = server.objects(f"{tmp_path.name}/run")
    assert sorted(there.list()) == ["config.yaml", "head.json", "study.db"]
    (tmp_path / "copy.db").write_bytes(there.get("study.db") or b"")
    assert read_numbers(tmp_path / "copy.db") == [(7,)]
    first.push(whole=True)
    assert "figures/curve.svg" in there.list()

    with pytest.raises(ValueError, match="exists already: go on with it by --resume 's3://"):
        StoredRun(storage, tmp_path / "elsewhere" / "run", 0).check(resume=False)

    uri = f"{server.uri(f'{tmp_path.name}/run')}"
    fetched = fetch_run(uri, tmp_path / "elsewhere")
    assert fetched == tmp_path / "elsewhere" / "run"
    assert read_numbers(fetched / "study.db") == [(7,)]
    assert fetch_run(uri, tmp_path / "elsewhere") == fetched, "what lies there is the run"

    second = StoredRun(storage, fetched, 0)
    second.check(resume=True)
    before = there.get("head.json")
    second.push(whole=True)
    assert there.get("head.json") == before, "nothing has changed"
    write(fetched, trials__csv="trial\n")
    second.push()
    write(run_dir, trials__csv="trial, otherwise\n")
    with pytest.raises(StorageError, match="was taken over by another process on"):
        first.push()
    assert there.get("trials.csv") == b"trial\n"
    with pytest.raises(ValueError, match=r"is not what s3://.* holds"):
        StoredRun(storage, run_dir, 0).check(resume=True)
    with pytest.raises(ValueError, match=r"move .* away"):
        fetch_run(uri, tmp_path)


def test_an_address_without_a_run_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no run: it has no head\.json"):
        fetch_run(server.uri("nothing/here"), tmp_path)
