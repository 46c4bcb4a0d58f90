"""How the test images' Dice spreads over models and folds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.results.figures.style import (
    GREY,
    INK,
    SCORE_LIMITS,
    SERIES,
    new_figure,
    new_panels,
    save_figure,
    set_title,
)
from busi_tune.results.marks import chosen_models, mark_model
from busi_tune.results.pages.kfold_tables import describe_protocol
from busi_tune.results.read import KfoldRun
from busi_tune.results.repeats import average_repeats
from busi_tune.statistics.intervals import summarise

Floats = npt.NDArray[np.float64]

BOXES = "Box: quartiles and median, whiskers: 5th and 95th percentile"


def write_comparisons(run: KfoldRun) -> None:
    """Write Dice per model and, where there are folds, per fold, over the tumour images."""
    folder = run.folder / run_directory.FIGURES
    save_figure(plot_models(run), folder, "models")
    if len(run.folds) > len(run.models):
        save_figure(plot_folds(run), folder, "folds")


def plot_folds(run: KfoldRun) -> Figure:
    """Draw a box per fold, a panel per model."""
    tumour = run.images[run.images["has_lesion"]]
    figure, panels = new_panels(len(run.models), "Fold", base=0.8, row_height=1.9)
    for position, (axes, model) in enumerate(zip(panels, run.models, strict=True)):
        grouped = tumour[tumour["model"] == model].groupby(["repeat", "fold"])["dice"]
        parts: dict[Any, Floats] = {key: part.to_numpy(np.float64) for key, part in grouped}
        values = list(parts.values())
        _draw_boxes(axes, values, [SERIES[position % len(SERIES)]] * len(values))
        means = [part.mean() for part in values]
        axes.plot(range(1, len(values) + 1), means, "D", color=INK, markersize=3)
        axes.set_xticks(range(1, len(values) + 1), [_name_fold(run, *key) for key in parts])
        axes.set_title(mark_model(model, chosen_models(run)))
    sizes = tumour.groupby(["model", "repeat", "fold"]).size()
    size = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    details = f"n = {size} tumour images per fold. {BOXES}, diamond: mean. {describe_protocol(run)}"
    set_title(figure, "Dice by fold", details)
    return figure


def plot_models(run: KfoldRun) -> Figure:
    """Draw every tumour image's Dice, with box, mean and interval, a row per model."""
    tumour = average_repeats(run.images[run.images["has_lesion"]], ["dice"])
    figure = new_figure(height=0.9 + 0.55 * len(run.models))
    axes = figure.subplots()
    generator = np.random.default_rng(0)
    for row, model in enumerate(reversed(run.models)):
        images = tumour[tumour["model"] == model]
        dice = images["dice"].to_numpy(dtype=np.float64)
        colour = SERIES[(len(run.models) - 1 - row) % len(SERIES)]
        jitter = row - 0.12 - 0.22 * generator.random(len(dice))
        axes.plot(dice, jitter, ".", color=colour, markersize=2.5, alpha=0.5, markeredgewidth=0)
        _draw_boxes(axes, [dice], [colour], [row + 0.05], vertical=False)
        _draw_mean(axes, images, row + 0.28)
    names = [mark_model(model, chosen_models(run)) for model in reversed(run.models)]
    axes.set_yticks(range(len(run.models)), names)
    axes.set_ylim(-0.5, len(run.models) - 0.5)
    axes.set_xlim(*SCORE_LIMITS)
    axes.set_xlabel("Dice")
    axes.grid(visible=False, axis="y")
    counts = tumour.groupby("model").size()
    details = (
        f"n = {counts.max()} tumour images, each a point, averaged over its repeats. "
        f"{BOXES}. Diamond: mean with its 95 % bootstrap interval over groups. "
        f"{describe_protocol(run)}"
    )
    set_title(figure, "Dice by model", details)
    return figure


def _draw_boxes(
    axes: Axes,
    values: Sequence[Floats],
    colours: Sequence[str],
    positions: Sequence[float] | None = None,
    *,
    vertical: bool = True,
) -> None:
    boxes = axes.boxplot(
        values,
        positions=positions,
        orientation="vertical" if vertical else "horizontal",
        widths=0.55 if vertical else 0.2,
        whis=(5, 95),
        showfliers=vertical,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": INK, "linewidth": 1.2},
        whiskerprops={"color": GREY},
        capprops={"color": GREY},
        flierprops={"marker": ".", "markersize": 2.5, "markerfacecolor": GREY,
                    "markeredgewidth": 0},
    )  # fmt: skip
    for box, colour in zip(boxes["boxes"], colours, strict=True):
        box.set(facecolor=colour, alpha=0.6, edgecolor=INK, linewidth=0.6)


def _draw_mean(axes: Axes, images: pd.DataFrame, height: float) -> None:
    (dice,) = summarise(images[["dice"]].to_numpy(dtype=np.float64), images["group"])
    axes.hlines(height, dice.low, dice.high, color=INK, linewidth=1.2)
    axes.plot(dice.mean, height, "D", color=INK, markersize=3.5)
    label = f"{dice.mean:.3f} [{dice.low:.3f}, {dice.high:.3f}]"
    left = dice.low > 0.3
    axes.annotate(
        label, (dice.low if left else dice.high, height), xytext=(-4 if left else 4, 0),
        textcoords="offset points", ha="right" if left else "left", va="center", fontsize=7,
    )  # fmt: skip


def _name_fold(run: KfoldRun, repeat: int, fold: int) -> str:
    return f"{repeat}.{fold}" if run.config.kfold.num_repeats > 1 else f"{fold}"
