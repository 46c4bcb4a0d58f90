"""Learning curves: training against validation, if any, for the loss and each metric."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from busi_tune import run_directory
from busi_tune.results.figures.style import (
    SCORE_LIMITS,
    TRAIN,
    VALIDATION,
    new_figure,
    save_figure,
    set_title,
)
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.read import KfoldRun

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


def write_model_curves(run: KfoldRun) -> None:
    """Write the curves of loss and metrics of every model."""
    folder = run.folder / run_directory.FIGURES
    for model in run.trained:
        epochs = run.epochs[run.epochs["model"] == model]
        curves = [curve for _, curve in epochs.groupby(["repeat", "fold"])]
        save_figure(plot_curves(f"Learning curves of {model}", curves), folder, f"curves-{model}")


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
    measured = [name for name in ("train_loss", "val_loss") if name in curves[0]]
    losses = np.concatenate([curve[measured].to_numpy().ravel() for curve in curves])
    if losses.min() > 0 and losses.max() > 8 * np.median(losses):
        axes.set_yscale("log")
        axes.set_title(f"{axes.get_title(loc='left')} (log scale)")
