"""Where each start of a training ran: a training that lost its node has several."""

import fcntl
import os
import platform
import time
from pathlib import Path

import pandas as pd

from busi_tune import run_directory


def note_start(folder: Path, address: str) -> None:
    """Append to starts.csv in a training's folder when, where and after which epoch it starts.

    Every rank that works in that folder adds its own line. The epoch is the last that epochs.csv
    has; one that was under way when a node was lost is run again.

    Args:
        folder: the training's.
        address: of this node.
    """
    path = folder / run_directory.STARTS
    epochs = folder / run_directory.EPOCHS
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "address": address,
        "process": os.getpid(),
        "rank": int(os.environ.get("RANK", 0)),
        "after_epoch": len(pd.read_csv(epochs)) if epochs.exists() else 0,
    }
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the ranks of a training start together
        is_new = file.seek(0, os.SEEK_END) == 0
        pd.DataFrame([row]).to_csv(file, index=False, header=is_new)
