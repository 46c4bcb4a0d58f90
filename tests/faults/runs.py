"""What a run has come to, read from its directory."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil

SECONDS_AFTER_A_KILL = 90
_watchers = ThreadPoolExecutor()


def watch_orphans(killed: list[psutil.Process]) -> Future[list[psutil.Process]]:
    """Watch what a killed driver had started, and give in the end what of it outlives the limit."""
    return _watchers.submit(lambda: psutil.wait_procs(killed, timeout=SECONDS_AFTER_A_KILL)[1])


def finished(run_dir: Path) -> int:
    return len(list(run_dir.glob("trainings/*/result.json")))


def epochs_seen(run_dir: Path) -> int:
    return sum(len(pd.read_csv(f)) for f in run_dir.glob("trainings/*/epochs.csv"))


def results(run_dir: Path) -> dict[str, float]:
    return {f.parent.name: f.stat().st_mtime_ns for f in run_dir.glob("trainings/*/result.json")}


def content(run_dir: Path) -> dict[str, bytes]:
    """Read every file but SQLite's own beside study.db, which it makes and removes as it likes."""
    files = (f for f in run_dir.rglob("*") if f.is_file() and not f.name.startswith("study.db-"))
    return {str(f.relative_to(run_dir)): f.read_bytes() for f in files}


def without_clock(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    clock = ["seconds", "images_per_second", "milliseconds_per_image"]
    return table.drop(columns=clock, errors="ignore")
