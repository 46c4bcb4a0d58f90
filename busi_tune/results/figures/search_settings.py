"""What a search learned of its settings: the value over each, all at once, and their importance."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from busi_tune import run_directory
from busi_tune.results.figures.style import (
    GREY,
    LIGHT,
    MARKERS,
    SERIES,
    VALIDATION,
    new_figure,
    save_figure,
    set_title,
)
from busi_tune.results.pages.search_tables import equals_choice
from busi_tune.results.pages.tables import format_value
from busi_tune.results.read import SearchRun
from busi_tune.search_space import Dimension, compile_space

MIN_TRIALS = 10
"""Complete trials below which importances would be noise."""
NUM_COLOURED = 5
_COLUMNS = 4


def write_search_settings(run: SearchRun) -> None:
    """Write slices, parallel coordinates and importances, as far as there are trials for them."""
    folder = run.folder / run_directory.FIGURES
    dimensions = varied(run)
    if not dimensions or not run.trials["best"].notna().any():
        return
    save_figure(plot_slices(run, dimensions), folder, "slices")
    save_figure(plot_parallel(run, dimensions), folder, "parallel")
    importances = compute_importances(run, dimensions)
    if importances:
        save_figure(plot_importances(run, importances), folder, "importances")


def varied(run: SearchRun) -> list[Dimension]:
    """Return the searched settings of which trials have tried at least two values."""
    space = compile_space(run.config.search.space)
    return [d for d in space if not d.is_constant and run.trials[d.name].nunique() > 1]


def plot_slices(run: SearchRun, dimensions: Sequence[Dimension]) -> Figure:
    """Draw the best value of every trial over each setting, a panel per setting."""
    rows = -(-len(dimensions) // _COLUMNS)
    figure = new_figure(height=0.9 + 1.7 * rows)
    panels = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    for axes in panels.flat[len(dimensions) :]:
        axes.set_visible(False)
    for axes, dimension in zip(panels.flat, dimensions, strict=False):
        _draw_slice(axes, run, dimension)
    for axes in panels[:, 0]:
        axes.set_ylabel(run.monitor)
    details = (
        f"n = {len(run.trials)} trials. Filled: complete; hollow: pruned or failed, at the best "
        "value until then. A setting under a condition shows the trials that used it."
    )
    set_title(figure, "The value over each setting", details)
    return figure


def _draw_slice(axes: Axes, run: SearchRun, dimension: Dimension) -> None:
    tried = run.trials[run.trials[dimension.name].notna()]
    values = tried[dimension.name]
    if dimension.choices:
        names = [format_value(choice) for choice in dimension.choices]
        values = _positions(tried, dimension) * (len(names) - 1)
        # Trials of one choice would hide each other; the offset is the trial's number, not chance.
        values = values + 0.3 * ((tried["trial"] * 0.618) % 1 - 0.5)
        turned = max(map(len, names)) > 4
        axes.set_xticks(range(len(names)), [name[-16:] for name in names])
        for label in axes.get_xticklabels() if turned else ():
            label.set(rotation=35, ha="right", fontsize=6)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif dimension.log:
        axes.set_xscale("log")
    complete = tried["state"] == "COMPLETE"
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3}
    axes.plot(values[~complete], tried["best"][~complete], color=GREY, fillstyle="none", **style)
    axes.plot(values[complete], tried["best"][complete], color=VALIDATION, **style)
    axes.set_xlabel(dimension.name)


def plot_parallel(run: SearchRun, dimensions: Sequence[Dimension]) -> Figure:
    """Draw each trial as a line over its settings to its value, the best ones in colour."""
    figure = new_figure(height=3.4)
    axes = figure.subplots()
    columns = [_positions(run.trials, dimension) for dimension in dimensions]
    best = run.trials["best"].astype(float)
    spread = (best.max() - best.min()) or 1.0
    lines = np.column_stack([*columns, (best - best.min()) / spread])
    leaders = list(run.leaders(NUM_COLOURED).index)
    for index, line in zip(run.trials.index, lines, strict=True):
        if index not in leaders:
            axes.plot(line, color=LIGHT, linewidth=0.6)
    for rank, index in reversed(list(enumerate(leaders))):
        line = lines[run.trials.index.get_loc(index)]
        label = f"trial {run.trials['trial'][index]}: {best[index]:.3f}"
        axes.plot(
            line, color=SERIES[rank], linewidth=1.4, marker=MARKERS[rank], markersize=4, label=label
        )
    names = [f"{d.name}\n{_ends(d)}" for d in dimensions]
    names.append(f"{run.monitor}\n{best.min():.3f} to {best.max():.3f}")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=6)
    axes.set_yticks([])
    if leaders:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper")
    details = (
        f"n = {len(run.trials)} trials, those behind the best {len(leaders)} complete ones in "
        "grey. Upwards from lowest to highest, from the first choice to the last; a line is broken "
        "where a trial did not use a setting."
    )
    set_title(figure, "The settings of all trials", details)
    return figure


def compute_importances(run: SearchRun, dimensions: Sequence[Dimension]) -> dict[str, float]:
    """Compute how much of the complete trials' spread each setting explains, by fANOVA.

    Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance",
    ICML 2014, as Optuna computes it. Settings that some complete trial did not use are left out.

    Returns:
        Shares that sum to 1, largest first; empty for fewer than `MIN_TRIALS` complete trials, or
        where all of them came to the same value.
    """
    complete = run.trials[run.trials["state"] == "COMPLETE"]
    shared = [d for d in dimensions if complete[d.name].notna().all()]
    if len(complete) < MIN_TRIALS or not shared or complete["value"].nunique() < 2:
        return {}
    distributions = {d.name: _distribution(d) for d in shared}
    values = {d.name: _values(complete[d.name], d) for d in shared}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials(
        [
            create_trial(
                state=TrialState.COMPLETE,
                value=float(complete["value"][trial]),
                params={d.name: values[d.name][trial] for d in shared},
                distributions=distributions,
            )
            for trial in complete.index
        ]
    )
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def plot_importances(run: SearchRun, importances: dict[str, float]) -> Figure:
    """Draw the shares as bars, the largest on top."""
    figure = new_figure(height=0.9 + 0.22 * len(importances))
    axes = figure.subplots()
    names = list(importances)[::-1]
    bars = axes.barh(names, [importances[name] for name in names], color=VALIDATION, height=0.7)
    axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
    axes.set_xlabel(f"Share of the variance of {run.monitor}")
    axes.grid(visible=False, axis="y")
    number = int((run.trials["state"] == "COMPLETE").sum())
    details = (
        f"n = {number} complete trials; fANOVA by a random forest, with few trials a rough hint. "
        "Pruned trials and settings under a condition are left out."
    )
    set_title(figure, "What mattered", details)
    return figure


def _positions(trials: pd.DataFrame, dimension: Dimension) -> "pd.Series[float]":
    """Place the trials between the ends of a setting, from 0 to 1; a gap where it was not used."""
    column = trials[dimension.name]
    if dimension.choices:
        placed = pd.Series(math.nan, column.index)
        for place, choice in enumerate(dimension.choices):
            placed[equals_choice(column, choice)] = place / max(1, len(dimension.choices) - 1)
        return placed
    low, high, values = dimension.low, dimension.high, column.astype(float)
    if dimension.log:
        low, high, values = math.log(low), math.log(high), values.map(math.log)
    return (values - low) / ((high - low) or 1.0)


def _values(column: "pd.Series[Any]", dimension: Dimension) -> dict[Any, Any]:
    """Return the values of a column of trials.csv as the space has them, by its index."""
    if dimension.choices:
        return {
            trial: choice
            for choice in dimension.choices
            for trial in column.index[equals_choice(column, choice)]
        }
    kind = int if isinstance(dimension.low, int) else float
    return {trial: kind(value) for trial, value in column.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        step = int(dimension.step or 1)
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _ends(dimension: Dimension) -> str:
    if dimension.choices:
        first, last = (format_value(dimension.choices[end])[-16:] for end in (0, -1))
        return f"{first} … {last}"
    return f"{dimension.low:g} to {dimension.high:g}"
