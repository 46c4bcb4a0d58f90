from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.results.figures.search_budget import spent_seconds
from busi_tune.results.figures.search_settings import (
    _positions,
    compute_importances,
    plot_parallel,
    varied,
    write_search_settings,
)
from tests.results.conftest import make_images, read_search, write_search_run

pytestmark = pytest.mark.usefixtures("blank_figures")


def names_of_figures(folder: Path) -> set[str]:
    return {path.stem for path in (folder / run_directory.FIGURES).glob("*.svg")}


def test_settings_that_never_varied_are_left_out(search_run: Path) -> None:
    names = [dimension.name for dimension in varied(read_search(search_run))]
    assert names == ["model.architecture", "optimizer.lr", "training.batch_size"]


def test_importances_need_some_complete_trials(search_run: Path, tmp_path: Path) -> None:
    write_search_settings(read_search(search_run))
    assert names_of_figures(search_run) == {"slices", "parallel"}
    many = write_search_run(tmp_path / "many", make_images(), num_trials=24)
    write_search_settings(read_search(many))
    assert names_of_figures(many) == {"slices", "parallel", "importances"}


def test_the_setting_that_moves_the_values_is_the_important_one(tmp_path: Path) -> None:
    run_dir = write_search_run(tmp_path / "many", make_images(), num_trials=36)
    path = run_dir / run_directory.TRIALS
    trials = pd.read_csv(path)
    complete = trials["state"] == "COMPLETE"
    trials.loc[complete, "value"] = np.log10(trials.loc[complete, "optimizer.lr"])
    trials.to_csv(path, index=False)
    run = read_search(run_dir)
    importances = compute_importances(run, varied(run))
    # batch_size is conditional: some complete trials lack it.
    assert set(importances) == {"optimizer.lr", "model.architecture"}
    assert importances["optimizer.lr"] > 0.8
    assert sum(importances.values()) == pytest.approx(1)
    assert compute_importances(run, varied(run)) == importances


def test_trials_lie_between_the_ends_of_a_setting(search_run: Path) -> None:
    run = read_search(search_run)
    dimensions = {dimension.name: dimension for dimension in varied(run)}
    architectures = _positions(run.trials, dimensions["model.architecture"])
    assert list(architectures) == [0, 1, 0, 1, 0, 1]
    batches = _positions(run.trials, dimensions["training.batch_size"])
    assert list(batches.isna()) == [False, True] * 3
    rates = _positions(run.trials, dimensions["optimizer.lr"])
    assert rates.between(0, 1).all()
    assert (rates.rank() == run.trials["optimizer.lr"].rank()).all()


def test_the_best_trials_differ_without_colour(search_run: Path) -> None:
    run = read_search(search_run)
    (axes,) = plot_parallel(run, varied(run)).axes
    shapes = [line.get_marker() for line in axes.lines if line.get_linewidth() > 1]
    assert len(shapes) == len(set(shapes)) == 4


def test_no_second_of_the_search_is_lost(search_run: Path) -> None:
    run = read_search(search_run)
    spent = spent_seconds(run)
    assert spent.to_numpy().sum() == run.trials["seconds"].sum()
    assert spent.loc["unet", "pruned"] == 12.0 and spent.loc["unet", "failed"] == 14.0
    refits = pd.DataFrame({"seconds": [30.0, 40.0]})
    refits.to_csv(search_run / run_directory.REFITS, index=False)
    assert spent_seconds(run).loc["refits", "refits"] == 70.0
