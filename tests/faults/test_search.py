"""SIGKILL of a worker and of the driver, in the middle of a search."""

import random
import time
from concurrent.futures import Future
from pathlib import Path

import optuna
import pandas as pd
import psutil
import pytest

from tests.faults.runs import (
    Done,
    content,
    epochs_seen,
    finished,
    start_alone,
    watch_orphans,
    without_clock,
)
from tests.processes import TINY, kill, kill_a_worker, start, wait_for_end, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


def assert_nothing_again(before: Done, run_dir: Path) -> Done:
    """Find all that was done as it was, and return what is done now."""
    done = Done.of(run_dir)
    assert before.count_again(done) == {"run_again": 0, "epochs_again": 0}
    return done


def test_a_search_killed_at_random_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """A worker is killed, and its driver twice. One slot, so that every decision is determined."""
    settings = [*TINY, "--training.epochs=3", "--search.num_trials=6", "--search.min_epochs=2"]
    settings += ["--search.refit=1", "--search.refit_seeds=1", "--resources.max_concurrent=1"]
    run_dir, whole, log = tmp_path / "run", tmp_path / "whole", tmp_path / "log"
    unbroken, log_of_it = start_alone("search", [*settings, f"--run_dir={whole}"], tmp_path)
    driver = start("search", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    kill_a_worker(driver)
    orphans, before = list[Future[list[psutil.Process]]](), Done({}, {})
    for at_least in (1, 4):
        moment = random.uniform(0, 1)
        wait_until(lambda n=at_least: finished(run_dir) >= n, f"result {at_least}")
        time.sleep(moment)
        orphans.append(watch_orphans(kill(driver)))
        with log.open("a") as file:
            file.write(f"killed {moment:.3f} s after result {at_least}\n")
        before = assert_nothing_again(before, run_dir)
        driver = start("search", [f"--resume={run_dir}"], log)
    wait_for_end(driver, log, 300)
    assert_nothing_again(before, run_dir)

    assert pd.read_csv(run_dir / "trials.csv")["trial"].tolist() == list(range(6))
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run_dir}/study.db")
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    for trial in study.trials:
        assert sorted(trial.intermediate_values) == list(range(1, trial.user_attrs["epochs"] + 1))
    wait_for_end(unbroken, log_of_it, 300)
    for name in ("trials.csv", "refits.csv", "epochs.csv", "images.csv"):
        broken_off, at_once = without_clock(run_dir / name), without_clock(whole / name)
        pd.testing.assert_frame_equal(broken_off, at_once, check_exact=True)

    everything, log = content(run_dir), tmp_path / "log of a finished run"
    wait_for_end(start("search", [f"--resume={run_dir}"], log), log, 300)
    assert content(run_dir) == everything, "resuming a finished run changed it"
    assert "Ray" not in log.read_text(), "a finished run started Ray"
    assert [future.result() for future in orphans] == [[], []], "processes outlive a killed driver"
