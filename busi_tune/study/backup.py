"""A consistent copy of the study's file, and its return where the file was damaged."""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path

from busi_tune.run_directory import set_aside, write_atomic

logger = logging.getLogger(__name__)

WAIT_SECONDS = 60.0
"""How long a study that another process has locked is waited for."""

# SQLITE_ERROR is said of a file without the table, or of an unknown format.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def backup_study(path: Path, backup: Path) -> None:
    """Copy a study that may be in use by this or another process, whole or not at all.

    The copy is one file, without a write-ahead log beside it. It is not forced to the disk: after
    a power loss the one before may be all there is, or none, which `recover` notices.
    """
    temporary = backup.with_name(f".{backup.name}.{os.getpid()}")
    try:
        with (
            contextlib.closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as source,
            contextlib.closing(sqlite3.connect(temporary)) as target,
        ):
            target.execute("PRAGMA synchronous=OFF")
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
        temporary.replace(backup)
    finally:
        temporary.unlink(missing_ok=True)


def recover(path: Path, backup: Path) -> None:
    """Put the copy in the place of a study's file that is damaged or gone; else do nothing.

    Call it before the study is opened. What was told after the copy was made is found again: the
    search asks for the same trial, whose folder has the result.

    Args:
        path: the study's file.
        backup: its copy, perhaps not there.

    Raises:
        OSError: one of them cannot be read for another reason, such as a full disk or a lock.
    """
    known = _holds_study(backup)
    if path.exists() and (_holds_study(path) or (not known and _is_sound(path))):
        return  # a file without a study is that of a run killed while it made one
    if path.exists():
        set_aside(path, "is damaged")
    elif not known:
        return
    for ending in ("-wal", "-shm"):  # they would be written into the file that takes its place
        log = path.with_name(path.name + ending)
        if log.exists():
            set_aside(log, f"belongs to a damaged {path.name}")
    if not known:
        logger.warning(
            "there is no whole copy %s: the search begins again, and takes the result of every "
            "training that it comes to again from its folder",
            backup,
        )
        return
    write_atomic(path, backup.read_bytes())
    logger.warning("%s was restored from %s", path, backup.name)


def _is_sound(path: Path) -> bool:
    return _ask(path, "PRAGMA quick_check") == ["ok"]


def _holds_study(path: Path) -> bool:
    return path.exists() and _is_sound(path) and bool(_ask(path, "SELECT study_name FROM studies"))


def _ask(path: Path, question: str) -> list[str]:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as connection:
            return [row[0] for row in connection.execute(question)]
    except UnicodeDecodeError:
        return []
    except sqlite3.DatabaseError as error:
        # Extended codes have the kind in their last byte; text that is none has no code.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGED:
            return []
        raise OSError(
            f"{path} cannot be read ({error}) and was left as it is: see that there is space on "
            "its disk, that it may be written and that no other process holds it"
        ) from error
