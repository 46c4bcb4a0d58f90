import errno
import sqlite3
from pathlib import Path

import pytest

from busi_tune.full_disk import describe_full_disk, find_full_disk

FULL = OSError(errno.ENOSPC, "No space left on device")


def caught(*errors: BaseException) -> BaseException:
    """Return the last of errors of which each was raised while the one before was handled."""
    first, *others = errors
    last = first
    for error in others:
        try:
            try:
                raise last
            except BaseException:
                raise error  # noqa: B904
        except BaseException as raised:
            last = raised
    return last


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("disk I/O error"),
        caught(FULL, KeyError("a"), RuntimeError("b")),
    ],
)
def test_a_full_disk_is_found_behind_other_errors(error: BaseException) -> None:
    assert find_full_disk(error) is not None


@pytest.mark.parametrize(
    "error",
    [
        None,
        OSError(errno.EACCES, "Permission denied"),
        sqlite3.OperationalError("database is locked"),
        RuntimeError("No space left on device"),
        caught(KeyError("a"), ValueError("b")),
    ],
)
def test_other_errors_are_not_taken_for_one(error: BaseException | None) -> None:
    assert find_full_disk(error) is None


def test_the_place_is_the_file_that_was_not_written_or_else_the_run(tmp_path: Path) -> None:
    of_file = OSError(errno.ENOSPC, "full", str(tmp_path / "not" / "there"))
    assert f"free at {tmp_path}; make space" in describe_full_disk(of_file, Path("/"))
    assert f"free at {tmp_path}; make space" in describe_full_disk(FULL, tmp_path / "run")


def test_an_error_of_the_disk_that_may_be_another_is_said(tmp_path: Path) -> None:
    said = describe_full_disk(sqlite3.OperationalError("disk I/O error"), tmp_path)
    assert "the disk is full or fails (disk I/O error): " in said
    said = describe_full_disk(sqlite3.OperationalError("database or disk is full"), tmp_path)
    assert "the disk is full: " in said
