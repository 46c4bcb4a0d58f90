"""The study's file."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy

from busi_tune.config import Config
from busi_tune.study.backup import backup_study, recover
from busi_tune.study.objectives import directions
from busi_tune.study.pruners import build_pruner

STUDY_NAME = "busi_tune"


@contextlib.contextmanager
def open_study(path: Path, config: Config) -> Iterator[optuna.Study]:
    """Open or make the study of a run in WAL mode, which survives the death of its writer.

    A damaged file is set aside and its last copy takes its place. On leaving, the write-ahead log
    is folded into the file, so that one file holds the study.
    """
    recover(path, copy_path(path))
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    storage.engine.dispose()
    sqlalchemy.event.listen(storage.engine, "connect", _use_write_ahead_log)
    try:
        yield optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            directions=directions(config),
            load_if_exists=True,
            pruner=build_pruner(config),
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy_path(path: Path) -> Path:
    """Return where the consistent copy of a study's file lies."""
    return path.with_name(f"{path.stem}.backup.db")


def copy_study(path: Path) -> None:
    """Bring the consistent copy of a study's file up to date."""
    backup_study(path, copy_path(path))


def _use_write_ahead_log(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
