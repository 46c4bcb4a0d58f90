"""SIGKILL of a worker and of the driver, in the middle of a search and of a cross-validation."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import psutil
import pytest

from tests.processes import TINY, end_what_is_left, kill, kill_a_worker, start, wait_until

pytestmark = pytest.mark.ray

SECONDS_AFTER_A_KILL = 90


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """End the processes of a test that failed."""
    yield
    end_what_is_left()


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


def test_a_search_survives_the_kill_of_a_worker_and_of_its_driver(tmp_path: Path) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    settings = [*TINY, "--training.epochs=4", "--search.num_trials=8", "--search.min_epochs=2"]
    driver = start("search", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    kill_a_worker(driver)
    wait_until(lambda: finished(run_dir) >= 3, "the third result")
    orphans = kill(driver)
    before = results(run_dir)

    assert start("search", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
    trials = pd.read_csv(run_dir / "trials.csv")
    assert trials["trial"].tolist() == list(range(8))
    assert set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run_dir}/study.db")
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    for trial in study.trials:
        assert sorted(trial.intermediate_values) == list(range(1, trial.user_attrs["epochs"] + 1))
    after = results(run_dir)
    assert {key: after[key] for key in before} == before, "a finished training was run again"

    whole, log = content(run_dir), tmp_path / "log of a finished run"
    assert start("search", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
    assert content(run_dir) == whole, "resuming a finished run changed it"
    assert "Ray" not in log.read_text(), "a finished run started Ray"

    _, alive = psutil.wait_procs(orphans, timeout=SECONDS_AFTER_A_KILL)
    assert not alive, "processes outlive a killed driver"


def test_a_killed_cross_validation_ends_with_the_numbers_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    settings = [*TINY, "--training.epochs=3", "--kfold.num_folds=3", "--kfold.models={}"]
    run_dir, log = tmp_path / "run", tmp_path / "log"
    driver = start("kfold", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    kill_a_worker(driver)
    wait_until(lambda: finished(run_dir) >= 1, "a result")
    kill(driver)
    before = results(run_dir)
    assert start("kfold", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
    after = results(run_dir)
    assert {key: after[key] for key in before} == before, "a finished fold was run again"

    whole = tmp_path / "whole"
    assert start("kfold", [*settings, f"--run_dir={whole}"], log).wait() == 0, log.read_text()
    for name in ("folds.csv", "epochs.csv", "images.csv"):
        broken, unbroken = (
            pd.read_csv(folder / name).drop(
                columns=["seconds", "images_per_second", "milliseconds_per_image"], errors="ignore"
            )
            for folder in (run_dir, whole)
        )
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
    assert start("kfold", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
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
    assert start("kfold", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
    assert content(run_dir) == whole, "resuming a finished run changed it"
