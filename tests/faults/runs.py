"""What a run has come to, read from its directory."""

import subprocess
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from tests.processes import start, wait_until

SECONDS_AFTER_A_KILL = 180
"""An agent of Ray takes 61 s to see that its cluster is gone, a worker at its start longer. On an
idle machine experiments/faults/search_kills.py measures it: all is gone before 90 s."""
_watchers = ThreadPoolExecutor()


def watch_orphans(killed: list[psutil.Process]) -> Future[list[psutil.Process]]:
    """Watch what a killed driver had started, and give in the end what of it outlives the limit."""
    return _watchers.submit(lambda: psutil.wait_procs(killed, timeout=SECONDS_AFTER_A_KILL)[1])


def start_alone(
    command: str, arguments: Sequence[str], folder: Path
) -> tuple["subprocess.Popen[bytes]", Path]:
    """Start what nothing happens to, and wait for its cluster: two that start take too long."""
    log = folder / "log of the unbroken"
    process = start(command, arguments, log)
    started = "Ray started"
    wait_until(lambda: started in log.read_text() or process.poll() is not None, started, 300)
    assert started in log.read_text(), log.read_text()
    return process, log


def finished(run_dir: Path) -> int:
    return len(list(run_dir.glob("trainings/*/result.json")))


def epochs_seen(run_dir: Path) -> int:
    return sum(len(pd.read_csv(f)) for f in run_dir.glob("trainings/*/epochs.csv"))


def results(run_dir: Path) -> dict[str, float]:
    return {f.parent.name: f.stat().st_mtime_ns for f in run_dir.glob("trainings/*/result.json")}


@dataclass(frozen=True)
class Done:
    """What a run has behind it and must not do twice, each with a mark that a repeat would change.

    The epoch under way, which a fault makes begin again, is not among it.
    """

    results: dict[str, float]
    """When each training that has ended was done."""
    epochs: dict[tuple[str, int], float]
    """The epochs that each training has behind it, and how long it had taken by then."""

    @classmethod
    def of(cls, run_dir: Path) -> "Done":
        """Read it from a run's directory or the place of its trainings."""
        tables = ((f.parent.name, pd.read_csv(f)) for f in run_dir.glob("trainings/*/epochs.csv"))
        epochs = {
            (key, epoch): seconds
            for key, table in tables
            for epoch, seconds in zip(table["epoch"], table["seconds"], strict=True)
        }
        return cls(results(run_dir), epochs)

    def num_epochs(self, key: str) -> int:
        """Count those of one training."""
        return sum(owner == key for owner, _ in self.epochs)

    def count_again(self, later: "Done") -> dict[str, int]:
        """Count the trainings and the epochs that are gone or were done again since."""
        pairs = {
            "run_again": (self.results, later.results),
            "epochs_again": (self.epochs, later.epochs),
        }
        return {
            name: sum(after.get(one) != mark for one, mark in before.items())
            for name, (before, after) in pairs.items()
        }


def content(run_dir: Path) -> dict[str, bytes]:
    """Read every file but SQLite's own beside study.db, which it makes and removes as it likes."""
    files = (f for f in run_dir.rglob("*") if f.is_file() and not f.name.startswith("study.db-"))
    return {str(f.relative_to(run_dir)): f.read_bytes() for f in files}


def without_clock(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    clock = ["seconds", "images_per_second", "milliseconds_per_image"]
    return table.drop(columns=clock, errors="ignore")
