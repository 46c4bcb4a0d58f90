from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.results.figures import search_curves
from busi_tune.results.figures.pareto import plot_pareto
from busi_tune.results.write import write_results
from tests.results.conftest import read_search, search_for, write_inner_folds


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def test_history_shows_every_trial_and_the_best_so_far(search_run: Path) -> None:
    run = read_search(search_run)
    figure = search_curves.plot_history(run)
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        counts = {label: len(line.get_xdata()) for label, line in lines.items()}
        expected = {"complete": 4, "pruned, best until then": 1, "failed": 1, "best so far": 6}
        assert counts == expected
        assert max(lines["best so far"].get_ydata()) == run.trials["value"].max()
    assert "n = 6 trials: 4 complete, 1 pruned, 1 failed" in caption(figure)


def test_history_is_also_drawn_over_the_seconds_of_all_trials(search_run: Path) -> None:
    trials = pd.read_csv(search_run / run_directory.TRIALS)
    trials.loc[4, "seconds"] = np.nan  # a failed trial knows none
    trials.to_csv(search_run / run_directory.TRIALS, index=False)
    over_trials, over_seconds = search_curves.plot_history(read_search(search_run)).axes
    step = over_seconds.lines[-1]
    assert list(step.get_xdata()) == [10, 21, 33, 46, 46, 61]
    assert list(step.get_ydata()) == list(over_trials.lines[-1].get_ydata())


def test_pruned_trial_stands_at_the_best_it_reached(search_run: Path) -> None:
    run = read_search(search_run)
    reached = run.epochs.loc[run.epochs["trial"] == 2, "val_dice"].max()
    assert run.trials.set_index("trial").loc[2, "best"] == reached


@pytest.mark.parametrize(
    ("unit", "label"), [("epochs", "Epoch"), ("seconds", "Seconds of training")]
)
def test_leaders_are_drawn_in_the_unit_of_the_rungs(
    search_run: Path, unit: str, label: str
) -> None:
    search_for(search_run, {"search.rung_unit": unit})
    run = read_search(search_run)
    axes = search_curves.plot_leaders(run, run.leaders(2)).axes[0]
    assert axes.get_xlabel() == label
    last = max(line.get_xdata().max() for line in axes.lines)
    assert last == (8 if unit == "epochs" else 16)


def test_curves_of_inner_folds_are_averaged_as_far_as_all_went(search_run: Path) -> None:
    write_inner_folds(search_run)
    run = read_search(search_run)
    epochs = run.epochs[run.epochs["trial"] == 0]
    curve = search_curves.average_folds(epochs, "val_dice")
    assert list(curve["epoch"]) == list(range(1, 8))
    first = epochs[epochs["epoch"] == 1]["val_dice"]
    assert curve["val_dice"][0] == pytest.approx(first.mean())
    figure = search_curves.plot_leaders(run, run.leaders(2))
    assert len(figure.axes[0].lines) == 6
    assert "inner folds" in caption(figure)


@pytest.mark.usefixtures("blank_figures")
def test_the_curves_of_the_best_trial_show_each_inner_fold(
    search_run: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inner_folds(search_run)
    drawn: list[list[pd.DataFrame]] = []

    def plot(title: str, curves: list[pd.DataFrame]) -> Figure:
        drawn.append(curves)
        return Figure()

    monkeypatch.setattr(search_curves, "plot_curves", plot)
    write_results(search_run, None)
    assert [curve["fold"].unique().tolist() for curve in drawn[0]] == [[0], [1]]


@pytest.mark.parametrize("objectives", [["parameters"], ["parameters", "milliseconds"]])
def test_the_front_is_drawn_over_each_cost(search_run: Path, objectives: list[str]) -> None:
    trials = pd.read_csv(search_run / run_directory.TRIALS)
    trials["num_parameters"] = [100, 200, 300, 400, 500, 600]
    trials["milliseconds_per_image"] = 2.0
    trials["value"] = [0.5, 0.4, np.nan, 0.6, np.nan, 0.3]
    trials.to_csv(search_run / run_directory.TRIALS, index=False)
    search_for(search_run, {"search.objectives": ["monitor", *objectives]})
    figure = plot_pareto(read_search(search_run))
    assert len(figure.axes) == len(objectives)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["front"].get_ydata()) == [0.5, 0.6]
    assert list(lines["dominated"].get_ydata()) == [0.4, 0.3]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "3"]
    assert "n = 4 complete trials, 2 of them on the front" in caption(figure)


@pytest.mark.usefixtures("blank_figures")
def test_a_search_with_several_objectives_gets_the_figure_of_its_front(search_run: Path) -> None:
    write_results(search_run, None)
    assert not (search_run / "figures/pareto.svg").exists()
    search_for(search_run, {"search.objectives": ["monitor", "parameters"]})
    write_results(search_run, None)
    assert (search_run / "figures/pareto.svg").exists()
