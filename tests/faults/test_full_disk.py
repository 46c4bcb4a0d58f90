"""A disk that is too small, and one that fills while a search runs: a real one, in memory."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.runs import results
from tests.processes import TINY, start, wait_for_end, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
SEARCH = [*TINY, "--training.epochs=4", "--search.num_trials=10", "--search.refit=0"]
SEARCH += ["--search.pruner=none", "--search.sampler=random", "--search.start=[]"]


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a small disk; needs root."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own needs root and mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1_000_000)):
            pass


def test_a_search_for_which_there_is_no_room_is_refused_before_it_starts(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 5) as small:
        log = tmp_path / "log"
        wait_for_end(
            start("search", [*SEARCH, f"--run_dir={small / 'run'}"], log), log, 300, code=2
        )
        assert "need more than the 5" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert not list(small.iterdir())


def test_a_search_whose_disk_fills_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with disk(tmp_path / "disk", 400) as place:
        run_dir, filler = place / "run", place / "filler"
        driver = start("search", [*SEARCH, f"--run_dir={run_dir}"], log)
        wait_until(lambda: len(results(run_dir)) >= 1, "a result")
        fill(filler)
        wait_for_end(driver, log, 240, code=3)
        assert "the disk is full" in log.read_text()
        assert f"--resume {run_dir}" in log.read_text()
        before = results(run_dir)
        assert 1 <= len(before) < 10

        fill(filler)
        wait_for_end(start("search", [f"--resume={run_dir}"], log), log, 240, code=3)
        assert not list(run_dir.glob("*.damaged*"))

        filler.unlink()
        wait_for_end(start("search", [f"--resume={run_dir}"], log), log, 300)
        assert results(run_dir).items() >= before.items(), "a finished training was run again"
        trials = pd.read_csv(run_dir / "trials.csv")
        assert trials["state"].tolist() == ["COMPLETE"] * 10
        epochs = pd.read_csv(run_dir / "epochs.csv").groupby("trial")["epoch"].agg(list)
        assert epochs.tolist() == [[1, 2, 3, 4]] * 10
