"""Learning curves of models and trials, and the history of a search."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from busi_tune import run_directory
from busi_tune.results.figures.style import (
    GREY,
    INK,
    LIGHT,
    MARKERS,
    SCORE_LIMITS,
    SERIES,
    TRAIN,
    VALIDATION,
    new_figure,
    save_figure,
    set_title,
)
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.pages.tables import format_value
from busi_tune.results.read import KfoldRun, SearchRun

PANELS = {
    "loss": "Loss",
    "dice": "Dice",
    "iou": "IoU",
    "pixel_f1": "Pixel F1",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "dice_tumour": "Dice, tumour images",
}
NUM_LEADERS = 5


def write_model_curves(run: KfoldRun) -> None:
    """Write the curves of loss and metrics of every model."""
    folder = run.folder / run_directory.FIGURES
    for model in run.trained:
        epochs = run.epochs[run.epochs["model"] == model]
        curves = [curve for _, curve in epochs.groupby(["repeat", "fold"])]
        save_figure(plot_curves(f"Learning curves of {model}", curves), folder, f"curves-{model}")


def write_search_curves(run: SearchRun) -> None:
    """Write the history of a search, its leaders' curves and all curves of the best trial."""
    folder = run.folder / run_directory.FIGURES
    save_figure(plot_history(run), folder, "history")
    leaders = run.leaders(NUM_LEADERS)
    if not len(leaders):
        return
    save_figure(plot_leaders(run, leaders), folder, "leaders")
    best = leaders["trial"].iloc[0]
    curves = [run.epochs[run.epochs["trial"] == best]]
    title = f"Learning curves of trial {best}, the best"
    save_figure(plot_curves(title, curves), folder, "curves-best")


def plot_curves(title: str, curves: Sequence[pd.DataFrame]) -> Figure:
    """Draw training against validation in a panel for the loss and each metric.

    Args:
        title: the figure's title.
        curves: the epochs of each training, sorted by epoch.
    """
    figure = new_figure(height=3.9)
    panels = figure.subplots(2, 4, sharex=True)
    for axes, (name, label) in zip(panels.flat, PANELS.items(), strict=True):
        for part, colour, line in (("train", TRAIN, "--"), ("val", VALIDATION, "-")):
            if f"{part}_{name}" in curves[0]:
                _draw_runs(axes, curves, f"{part}_{name}", colour, line)
        axes.set_title(label)
        if name == "loss":
            _scale_loss(axes, curves)
        else:
            axes.set_ylim(*SCORE_LIMITS)
    for axes in panels[-1]:
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    many = len(curves) > 1
    details = f"n = {len(curves)} training{'s' if many else ''}"
    if many:
        details += "; thin: each of them, bold: their mean, as far as all of them went"
    details += ". Metrics per image at training size, training ones on augmented images. "
    details += EMPTY_RULE
    set_title(figure, title, details)
    return figure


def plot_history(run: SearchRun) -> Figure:
    """Draw the value of each trial in the order of the search, and the best so far."""
    figure = new_figure(height=2.8)
    axes = figure.subplots()
    trials = run.trials.sort_values("trial")
    by_state = {state: trials[trials["state"] == state] for state in ("COMPLETE", "PRUNED", "FAIL")}
    complete, pruned, failed = by_state.values()
    marks: dict[str, Any] = {"linestyle": "none", "markersize": 4.5, "zorder": 3}
    axes.plot(complete["trial"], complete["best"], "o", color=VALIDATION, label="complete", **marks)
    axes.plot(
        pruned["trial"], pruned["best"], "v", color=GREY, fillstyle="none",
        label="pruned, best until then", **marks,
    )  # fmt: skip
    if len(failed):
        foot = axes.get_xaxis_transform()
        axes.plot(
            failed["trial"], np.zeros(len(failed)), "x", color=INK, label="failed",
            transform=foot, clip_on=False, **marks,
        )  # fmt: skip
    accumulate = np.fmax.accumulate if run.maximises else np.fmin.accumulate
    running = accumulate(trials["value"].to_numpy(dtype=np.float64))
    axes.step(trials["trial"], running, color=INK, where="post", label="best so far")
    _label_axes(axes, "Trial", run.monitor)
    figure.legend(loc="outside upper right", ncols=4)
    counts = f"{len(complete)} complete, {len(pruned)} pruned, {len(failed)} failed"
    details = f"n = {len(trials)} trials: {counts}. Mean over the validation images."
    set_title(figure, "History of the search", details)
    return figure


def plot_leaders(run: SearchRun, leaders: pd.DataFrame) -> Figure:
    """Draw validation curves: the best trials, at most seven, in colour, the others in grey."""
    figure = new_figure(height=2.8)
    axes = figure.subplots()
    others = run.epochs[~run.epochs["trial"].isin(leaders["trial"])]
    for _, curve in others.groupby("trial"):
        axes.plot(curve["epoch"], curve[run.monitor], color=LIGHT, linewidth=0.8)
    for rank, (_, trial) in enumerate(leaders.iterrows()):
        curve = run.epochs[run.epochs["trial"] == trial["trial"]]
        axes.plot(
            curve["epoch"], curve[run.monitor], color=SERIES[rank], marker=MARKERS[rank],
            markersize=3.5, markevery=max(1, len(curve) // 8),
            label=f"trial {trial['trial']}: {trial['value']:.3f}{_describe(trial, run.settings)}",
        )  # fmt: skip
    _label_axes(axes, "Epoch", run.monitor)
    figure.legend(loc="outside right upper")
    num_trials = run.epochs["trial"].nunique()
    details = f"n = {num_trials} trials, the others in grey. Mean over the validation images."
    set_title(figure, "Validation curves of the best trials", details)
    return figure


def _draw_runs(
    axes: Axes, curves: Sequence[pd.DataFrame], column: str, colour: str, line: str
) -> None:
    label = "training" if column.startswith("train") else "validation"
    if len(curves) > 1:
        for curve in curves:
            axes.plot(curve["epoch"], curve[column], line, color=colour, linewidth=0.5, alpha=0.5)
    shared = min(len(curve) for curve in curves)
    mean = np.mean([curve[column].to_numpy()[:shared] for curve in curves], axis=0)
    axes.plot(curves[0]["epoch"].to_numpy()[:shared], mean, line, color=colour, label=label)


def _scale_loss(axes: Axes, curves: Sequence[pd.DataFrame]) -> None:
    """Take a log scale where the first epochs would press the rest of the curve flat."""
    losses = np.concatenate(
        [curve[["train_loss", "val_loss"]].to_numpy().ravel() for curve in curves]
    )
    if losses.min() > 0 and losses.max() > 8 * np.median(losses):
        axes.set_yscale("log")
        axes.set_title(f"{axes.get_title(loc='left')} (log scale)")


def _label_axes(axes: Axes, across: str, monitor: str) -> None:
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
