"""Scratch folders that are swept away in the end even where their process was killed."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(purpose: str, parent: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Give an empty folder of this process, and remove it afterwards.

    Whoever makes the next one for the same purpose on this machine removes those whose processes
    were killed: a process holds the lock of its own as long as it lives.

    Args:
        purpose: one word, a part of the folder's name.
        parent: where it lies; by default where the system keeps temporary files.
    """
    place = Path(parent or tempfile.gettempdir())
    # Other machines may see the place, and not each other's locks.
    prefix = f"busi_tune-{purpose}-{re.sub(r'[^A-Za-z0-9.]', '_', socket.gethostname())}-"
    for left in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        folder = _make(prefix, place, stack)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _make(prefix: str, place: Path, stack: contextlib.ExitStack) -> Path:
    """Make a folder and lock it, and another where someone has swept it before it was locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        try:
            stack.enter_context(_locked(folder))
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # a file system without locks: nobody sweeps there
            return folder
        if folder.exists():
            return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock.

    Raises:
        OSError: another process holds it, or there is nothing to lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
