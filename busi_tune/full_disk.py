"""A full disk, which often hides behind another error and ends a run that can go on later."""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_OF_SQLITE = ("disk is full", "disk I/O error")


def find_full_disk(error: BaseException | None) -> BaseException | None:
    """Return what tells of a full disk among an error and the errors that led to it, if any."""
    return next((cause for cause in _causes(error) if _is_full_disk(cause)), None)


def describe_full_disk(error: BaseException, folder: Path) -> str:
    """Say which disk is full and what is left on it.

    Args:
        error: from `find_full_disk`; it may name a file.
        folder: where something was written, in case it does not.
    """
    place = Path(getattr(error, "filename", None) or folder)
    while not place.is_dir():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e6
    unsure = isinstance(error, sqlite3.Error) and "full" not in str(error)
    full = f"full or fails ({error})" if unsure else "full"
    return f"the disk is {full}: {free:,.1f} MB are free at {place}; make space there"


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return any(words in str(error) for words in _OF_SQLITE)
    return isinstance(error, OSError) and error.errno in _ERRNOS


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
