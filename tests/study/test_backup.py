import contextlib
import logging
import resource
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from busi_tune.config import Config
from busi_tune.full_disk import find_full_disk
from busi_tune.study.backup import backup_study, recover
from busi_tune.study.storage import open_study


def add_trials(path: Path, number: int, backup: Path | None = None) -> None:
    with open_study(path, Config()) as study:
        for _ in range(number):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0, 1))
        if backup:
            backup_study(path, backup)  # while the study is open


def values(path: Path) -> list[float]:
    with open_study(path, Config()) as study:
        return [trial.value for trial in study.trials]


@pytest.fixture(autouse=True)
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    add_trials(folder / "study.db", 2, folder / "study.backup.db")
    add_trials(folder / "study.db", 1)
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A study of three trials, of which the copy has two."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "study.db"


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "beginning":
            path.write_bytes(b"\0" * 5000 + content[5000:])
        case "middle":
            path.write_bytes(content[:4096] + b"\xff" * 30000 + content[34096:])
        case "gone":
            path.unlink()


def test_a_copy_is_one_whole_file_that_opens_as_the_study(study: Path) -> None:
    backup = study.with_name("study.backup.db")
    assert values(backup) == values(study)[:2]
    backup_study(study, backup)
    assert values(backup) == values(study)
    assert {path.name for path in study.parent.iterdir()} == {"study.db", "study.backup.db"}


def test_a_whole_study_is_left_alone(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = study.read_bytes()
    recover(study, study.with_name("study.backup.db"))
    assert study.read_bytes() == before
    assert not caplog.text


@pytest.mark.parametrize("kind", ["empty", "truncated", "beginning", "middle", "gone"])
def test_a_damaged_study_is_set_aside_and_its_copy_takes_its_place(
    study: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    backup = study.with_name("study.backup.db")
    known = values(backup)
    damage(study, kind)
    damaged = study.read_bytes() if study.exists() else b""
    recover(study, backup)
    assert values(study) == known
    assert f"{study} was restored from study.backup.db" in caplog.text
    if kind != "gone":
        assert f"{study} is damaged; it is set aside as study.db.damaged" in caplog.text
        assert study.with_name("study.db.damaged").read_bytes() == damaged
    add_trials(study, 1)
    assert len(values(study)) == 3


def test_the_log_of_a_lost_study_is_not_written_into_its_copy(study: Path) -> None:
    backup = study.with_name("study.backup.db")
    with open_study(study, Config()) as opened:
        opened.ask()
        log = study.with_name("study.db-wal").read_bytes()
    assert log
    damage(study, "gone")
    study.with_name("study.db-wal").write_bytes(log)
    recover(study, backup)
    assert len(values(study)) == 2
    assert study.with_name("study.db-wal.damaged").exists()


def test_a_second_damage_keeps_the_first(study: Path) -> None:
    backup = study.with_name("study.backup.db")
    for _ in range(2):
        damage(study, "truncated")
        recover(study, backup)
    assert study.with_name("study.db.damaged-2").exists()


@pytest.mark.parametrize("backup", ["damaged", "missing"])
def test_without_a_whole_copy_the_search_begins_again(
    study: Path, backup: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = study.with_name("study.backup.db")
    damage(copy, "truncated" if backup == "damaged" else "gone")
    damage(study, "truncated")
    recover(study, copy)
    assert not study.exists()
    assert "the search begins again" in caplog.text


@pytest.mark.parametrize("content", [None, b""])
def test_a_run_that_was_killed_before_it_had_a_study_is_no_damage(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "study.db"
    if content is not None:
        path.write_bytes(content)
    recover(path, tmp_path / "study.backup.db")
    assert path.exists() is (content is not None)
    assert not caplog.text


@contextlib.contextmanager
def full_disk(left: int = 0) -> Iterator[None]:
    """Let no file grow beyond these bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield


def test_a_whole_study_on_a_full_disk_is_no_damage(study: Path) -> None:
    before = {path.name: path.read_bytes() for path in study.parent.iterdir()}
    with full_disk(), pytest.raises(OSError, match=f"{study} cannot be read.*space") as raised:
        recover(study, study.with_name("study.backup.db"))
    assert find_full_disk(raised.value)
    assert {name: (study.parent / name).read_bytes() for name in before} == before
    assert not list(study.parent.glob("*.damaged*"))
    assert len(values(study)) == 3


def test_a_study_that_another_process_holds_is_no_damage(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("busi_tune.study.backup.WAIT_SECONDS", 0.1)
    said = f"{study} cannot be read .database is locked.*no other process"
    with held(study), pytest.raises(OSError, match=said) as raised:
        recover(study, study.with_name("study.backup.db"))
    assert not find_full_disk(raised.value)
    assert not list(study.parent.glob("*.damaged*"))
    assert len(values(study)) == 3


def test_a_copy_for_which_there_is_no_space_takes_its_place_later(study: Path) -> None:
    backup = study.with_name("study.backup.db")
    damage(study, "truncated")
    with full_disk(40_000), pytest.raises(OSError):  # space for SQLite's index, not for the copy
        recover(study, backup)
    assert {path.name for path in study.parent.iterdir()} == {"study.backup.db", "study.db.damaged"}
    recover(study, backup)
    assert values(study) == values(backup)
