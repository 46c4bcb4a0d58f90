"""Every file name of a run, atomic writing, the lock and the environment record."""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
SPLITS = "splits.json"
TRIALS = "trials.csv"
FOLDS = "folds.csv"
EPOCHS = "epochs.csv"
IMAGES = "images.csv"
BEST = "best.yaml"
STUDY = "study.db"
TRAININGS = "trainings"
PREDICTIONS = "predictions"
TABLES = "tables"
FIGURES = "figures"

LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
RESULT = "result.json"
STOP = "stop"
LOCK = "lock"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it appears whole or not at all, also after a power loss."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def locked(folder: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process dies.

    Raises:
        TimeoutError: another process held it for `wait_seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with (folder / LOCK).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"{folder} is in use by another process; wait for it or end it"
                    ) from None
                time.sleep(0.1)
        yield
