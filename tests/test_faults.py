"""SIGKILL of a worker and of the driver, in the middle of a search and of a cross-validation."""

import random
import time
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


def without_clock(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    clock = ["seconds", "images_per_second", "milliseconds_per_image"]
    return table.drop(columns=clock, errors="ignore")


def test_a_search_killed_at_random_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """A worker is killed, and its driver twice. One slot, so that every decision is determined."""
    settings = [*TINY, "--training.epochs=3", "--search.num_trials=6", "--search.min_epochs=2"]
    settings += ["--search.refit=1", "--search.refit_seeds=1", "--resources.max_concurrent=1"]
    run_dir, whole, log = tmp_path / "run", tmp_path / "whole", tmp_path / "log"
    unbroken = start("search", [*settings, f"--run_dir={whole}"], tmp_path / "log of the unbroken")
    driver = start("search", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    kill_a_worker(driver)
    orphans, before = list[psutil.Process](), dict[str, float]()
    for at_least in (1, 4):
        moment = random.uniform(0, 1)
        wait_until(lambda n=at_least: finished(run_dir) >= n, f"result {at_least}")
        time.sleep(moment)
        killed = kill(driver)
        orphans = orphans or killed
        with log.open("a") as file:
            file.write(f"killed {moment:.3f} s after result {at_least}\n")
        assert results(run_dir).items() >= before.items(), "a finished training was run again"
        before = results(run_dir)
        driver = start("search", [f"--resume={run_dir}"], log)
    assert driver.wait() == 0, log.read_text()
    assert results(run_dir).items() >= before.items(), "a finished training was run again"

    assert pd.read_csv(run_dir / "trials.csv")["trial"].tolist() == list(range(6))
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run_dir}/study.db")
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    for trial in study.trials:
        assert sorted(trial.intermediate_values) == list(range(1, trial.user_attrs["epochs"] + 1))
    assert unbroken.wait() == 0, (tmp_path / "log of the unbroken").read_text()
    for name in ("trials.csv", "refits.csv", "epochs.csv", "images.csv"):
        broken_off, at_once = without_clock(run_dir / name), without_clock(whole / name)
        pd.testing.assert_frame_equal(broken_off, at_once, check_exact=True)

    everything, log = content(run_dir), tmp_path / "log of a finished run"
    assert start("search", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
    assert content(run_dir) == everything, "resuming a finished run changed it"
    assert "Ray" not in log.read_text(), "a finished run started Ray"

    _, alive = psutil.wait_procs(orphans, timeout=SECONDS_AFTER_A_KILL)
    assert not alive, "processes outlive a killed driver"


def test_a_killed_cross_validation_ends_with_the_numbers_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    settings = [*TINY, "--training.epochs=3", "--kfold.num_folds=3", "--kfold.models={}"]
    run_dir, whole, log = tmp_path / "run", tmp_path / "whole", tmp_path / "log"
    at_once = start("kfold", [*settings, f"--run_dir={whole}"], tmp_path / "log of the unbroken")
    driver = start("kfold", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    kill_a_worker(driver)
    wait_until(lambda: finished(run_dir) >= 1, "a result")
    kill(driver)
    before = results(run_dir)
    assert start("kfold", [f"--resume={run_dir}"], log).wait() == 0, log.read_text()
    after = results(run_dir)
    assert {key: after[key] for key in before} == before, "a finished fold was run again"

    assert at_once.wait() == 0, (tmp_path / "log of the unbroken").read_text()
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
