"""SIGKILL of a worker and of the driver, in the middle of a cross-validation."""

from pathlib import Path

import pandas as pd
import pytest

from tests.faults.runs import (
    content,
    epochs_seen,
    finished,
    results,
    start_alone,
    watch_orphans,
    without_clock,
)
from tests.processes import TINY, kill, kill_a_worker, start, wait_for_end, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_killed_cross_validation_ends_with_the_numbers_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    settings = [*TINY, "--training.epochs=3", "--kfold.num_folds=3", "--kfold.models={}"]
    run_dir, whole, log = tmp_path / "run", tmp_path / "whole", tmp_path / "log"
    at_once, log_of_it = start_alone("kfold", [*settings, f"--run_dir={whole}"], tmp_path)
    driver = start("kfold", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    kill_a_worker(driver)
    wait_until(lambda: finished(run_dir) >= 1, "a result")
    orphans = watch_orphans(kill(driver))
    before = results(run_dir)
    wait_for_end(start("kfold", [f"--resume={run_dir}"], log), log, 300)
    after = results(run_dir)
    assert {key: after[key] for key in before} == before, "a finished fold was run again"

    assert not orphans.result(), "processes outlive a killed driver"
    wait_for_end(at_once, log_of_it, 300)
    for name in ("folds.csv", "epochs.csv", "images.csv"):
        broken, unbroken = (without_clock(folder / name) for folder in (run_dir, whole))
        pd.testing.assert_frame_equal(broken, unbroken, check_exact=True)


def test_a_killed_nested_cross_validation_ends_with_the_winners_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    search = tmp_path / "search.yaml"
    search.write_text(
        "search: {num_trials: 2, sampler: random, pruner: none, space: {optimizer.lr: "
        "{low: 1.0e-3, high: 3.0e-2, log: true}, model.base_width: [4]}}\n"
    )
    settings = [*TINY, "--training.epochs=1", "--kfold.num_folds=2", "--kfold.models={}"]
    settings += [f"--kfold.search={search}"]
    run_dir, log = tmp_path / "run", tmp_path / "log"
    driver = start("kfold", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: finished(run_dir) >= 2, "the second result")
    kill(driver)
    before = results(run_dir)
    search.unlink()
    wait_for_end(start("kfold", [f"--resume={run_dir}"], log), log, 300)
    after = results(run_dir)
    assert len(after) == 2 * (2 + 1)
    assert {key: after[key] for key in before} == before, "a finished training was run again"

    trials = pd.read_csv(run_dir / "nested_trials.csv")
    assert trials[["fold", "trial"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    winners = trials[trials["chosen"]]
    best = trials.groupby("fold")["value"].max()
    assert winners["value"].tolist() == best.tolist()
    folds = pd.read_csv(run_dir / "folds.csv")
    assert folds["model"].tolist() == ["nested_search"] * 2
    assert folds["best_value"].tolist() == winners["value"].tolist(), "same seed, same bits"
    table = pd.read_csv(run_dir / "tables" / "nested.csv")
    assert table["inner"].tolist() == winners["value"].tolist()
    assert table["num_test"].sum() == 40

    whole, log = content(run_dir), tmp_path / "log of a finished run"
    wait_for_end(start("kfold", [f"--resume={run_dir}"], log), log, 300)
    assert content(run_dir) == whole, "resuming a finished run changed it"
