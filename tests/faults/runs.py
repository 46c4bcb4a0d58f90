"""What a run has come to, read from its directory."""

from pathlib import Path

import pandas as pd


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
