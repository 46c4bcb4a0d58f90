"""Where each start of a training ran: a training that lost its node has several."""

import fcntl
import os
import platform
import time
from pathlib import Path

import pandas as pd
import ray

from busi_tune import run_directory
from busi_tune.remote.run import StoredRun


def note_start(folder: Path) -> tuple[int, str]:
    """Append to starts.csv in a training's folder when, where and after which epoch it starts.

    Every rank that works in that folder adds its own line. The epoch is the last that epochs.csv
    has; one that was under way when a node was lost is run again.

    Returns:
        The rank and its address.
    """
    path = folder / run_directory.STARTS
    epochs = folder / run_directory.EPOCHS
    rank, address = int(os.environ.get("RANK", 0)), str(ray.util.get_node_ip_address())
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "address": address,
        "process": os.getpid(),
        "rank": rank,
        "after_epoch": len(pd.read_csv(epochs)) if epochs.exists() else 0,
    }
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the ranks of a training start together
        is_new = file.seek(0, os.SEEK_END) == 0
        pd.DataFrame([row]).to_csv(file, index=False, header=is_new)
    return rank, address


def find_last_addresses(
    folder: Path, num_workers: int, storage: StoredRun | None = None
) -> set[str]:
    """Return the addresses of the nodes on which a training last started, as far as noted.

    Args:
        folder: the training's, as the driver has it.
        num_workers: its ranks.
        storage: where its files go, if not to that folder.
    """
    if storage is not None:
        return storage.find_places(folder, num_workers)
    path = folder / run_directory.STARTS
    if not path.exists():
        return set()
    return set(pd.read_csv(path)["address"].tail(num_workers))
