"""The history of a search, over trials and over what they cost, and its trials' curves."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from busi_tune import run_directory
from busi_tune.results.figures.curves import plot_curves
from busi_tune.results.figures.style import (
    GREY,
    INK,
    LIGHT,
    MARKERS,
    SERIES,
    VALIDATION,
    new_figure,
    save_figure,
    set_title,
)
from busi_tune.results.pages.tables import format_value
from busi_tune.results.read import SearchRun

NUM_LEADERS = 5


def write_search_curves(run: SearchRun) -> None:
    """Write the history of a search, its leaders' curves and all curves of the best trial."""
    folder = run.folder / run_directory.FIGURES
    save_figure(plot_history(run), folder, "history")
    leaders = run.leaders(NUM_LEADERS)
    if not len(leaders):
        return
    save_figure(plot_leaders(run, leaders), folder, "leaders")
    best = leaders["trial"].iloc[0]
    epochs = run.epochs[run.epochs["trial"] == best]
    curves = [curve for _, curve in epochs.groupby("fold")] if "fold" in epochs else [epochs]
    title = f"Learning curves of trial {best}, the best"
    save_figure(plot_curves(title, curves), folder, "curves-best")


def plot_history(run: SearchRun) -> Figure:
    """Draw the value of each trial and the best so far, over trials and over seconds spent."""
    figure = new_figure(height=2.8)
    left, right = figure.subplots(1, 2, sharey=True)
    trials = run.trials.sort_values("trial")
    spent = trials["seconds"].fillna(0).cumsum()
    _draw_history(left, run, trials, trials["trial"])
    _draw_history(right, run, trials, spent)
    label_axes(left, "Trial", run.monitor)
    right.set_xlabel("Seconds of all trials so far")
    right.set_xlim(left=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    states = trials["state"].value_counts()
    counts = ", ".join(
        f"{states.get(state, 0)} {name}"
        for state, name in (("COMPLETE", "complete"), ("PRUNED", "pruned"), ("FAIL", "failed"))
    )
    details = f"n = {len(trials)} trials: {counts}. Mean over the validation images. "
    details += "Seconds are summed over the trials, whether or not they ran side by side."
    set_title(figure, "History of the search", details)
    return figure


def _draw_history(
    axes: Axes, run: SearchRun, trials: pd.DataFrame, across: "pd.Series[float]"
) -> None:
    marks: dict[str, Any] = {"linestyle": "none", "markersize": 4.5, "zorder": 3}
    complete, pruned, failed = (
        trials["state"] == state for state in ("COMPLETE", "PRUNED", "FAIL")
    )
    axes.plot(
        across[complete], trials["best"][complete], "o", color=VALIDATION, label="complete", **marks
    )
    axes.plot(
        across[pruned], trials["best"][pruned], "v", color=GREY, fillstyle="none",
        label="pruned, best until then", **marks,
    )  # fmt: skip
    if failed.any():
        axes.plot(
            across[failed], np.zeros(failed.sum()), "x", color=INK, label="failed",
            transform=axes.get_xaxis_transform(), clip_on=False, **marks,
        )  # fmt: skip
    accumulate = np.fmax.accumulate if run.maximises else np.fmin.accumulate
    running = accumulate(trials["value"].to_numpy(dtype=np.float64))
    axes.step(across, running, color=INK, where="post", label="best so far")


def plot_leaders(run: SearchRun, leaders: pd.DataFrame) -> Figure:
    """Draw validation curves: the best trials, at most seven, in colour, the others in grey.

    They are drawn over seconds of training where the search's rungs count these.
    """
    figure = new_figure(height=2.8)
    axes = figure.subplots()
    across = "seconds" if run.config.search.rung_unit == "seconds" else "epoch"
    others = run.epochs[~run.epochs["trial"].isin(leaders["trial"])]
    for _, epochs in others.groupby("trial"):
        curve = average_folds(epochs, run.monitor)
        axes.plot(curve[across], curve[run.monitor], color=LIGHT, linewidth=0.8)
    for rank, (_, trial) in enumerate(leaders.iterrows()):
        curve = average_folds(run.epochs[run.epochs["trial"] == trial["trial"]], run.monitor)
        axes.plot(
            curve[across], curve[run.monitor], color=SERIES[rank], marker=MARKERS[rank],
            markersize=3.5, markevery=max(1, len(curve) // 8),
            label=f"trial {trial['trial']}: {trial['value']:.3f}{_describe(trial, run.settings)}",
        )  # fmt: skip
    label_axes(axes, "Seconds of training" if across == "seconds" else "Epoch", run.monitor)
    figure.legend(loc="outside right upper")
    num_trials = run.epochs["trial"].nunique()
    details = f"n = {num_trials} trials, the others in grey. Mean over the validation images"
    details += " and, as far as all of them went, inner folds." if "fold" in run.epochs else "."
    set_title(figure, "Validation curves of the best trials", details)
    return figure


def average_folds(epochs: pd.DataFrame, monitor: str) -> pd.DataFrame:
    """Average a trial's curves over its inner folds, as far as all of them went."""
    if "fold" not in epochs:
        return epochs
    by_epoch = epochs.groupby("epoch")[["seconds", monitor]]
    shared = by_epoch.size() == epochs["fold"].nunique()
    return by_epoch.mean()[shared].reset_index()


def label_axes(axes: Axes, across: str, monitor: str) -> None:
    """Name the axes of a figure of validation values."""
    names = {"val_dice": "Dice", "val_dice_tumour": "Dice, tumour images", "val_loss": "loss"}
    axes.set_xlabel(across)
    axes.set_ylabel(f"Validation {names[monitor]}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _describe(trial: "pd.Series[float]", settings: Sequence[str]) -> str:
    """Name the trial's settings, a short line each."""
    values = [
        f"{name.split('.')[-1]}\N{NO-BREAK SPACE}{format_value(trial[name])}"
        for name in settings
        if pd.notna(trial[name])
    ]
    return "\n" + textwrap.fill(", ".join(values), 44)
