"""Dice against the size of the lesion."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.results.figures.style import (
    INK,
    LIGHT,
    SERIES,
    new_panels,
    save_figure,
    set_title,
)
from busi_tune.results.marks import chosen_models, mark_model
from busi_tune.results.pages.kfold_tables import describe_protocol
from busi_tune.results.read import KfoldRun
from busi_tune.results.repeats import average_repeats
from busi_tune.statistics.intervals import summarise

MAX_BINS, SMALLEST_BIN = 8, 12


def write_sizes(run: KfoldRun) -> None:
    """Write Dice against lesion size, a panel per model."""
    save_figure(plot_sizes(run), run.folder / run_directory.FIGURES, "sizes")


def size_table(run: KfoldRun) -> pd.DataFrame:
    """Return a row per model and tumour image, averaged over repeats.

    Returns:
        Columns model, image, group, dice, area (per cent of the image) and bin, from 0 for the
        smallest lesions; bins hold equally many images and are the same for all models.
    """
    tumour = run.images[run.images["has_lesion"]]
    pixels = tumour["height"] * tumour["width"]
    tumour = tumour.assign(area=100 * (tumour["tp"] + tumour["fn"]) / pixels)
    table = average_repeats(tumour[["model", "image", "group", "dice", "area"]], ["dice"])
    areas = table.groupby("image")["area"].first().sort_values(kind="stable")
    num_bins = int(np.clip(len(areas) // SMALLEST_BIN, 1, MAX_BINS))
    bins = pd.Series(np.arange(len(areas)) * num_bins // len(areas), areas.index)
    return table.assign(bin=table["image"].map(bins))


def plot_sizes(run: KfoldRun) -> Figure:
    """Draw each image as a point and the mean of each bin with its interval."""
    table = size_table(run)
    across = "Lesion area (% of the image)"
    figure, panels = new_panels(len(run.models), across, base=1.0, row_height=2.0)
    means = {model: _bin_means(table[table["model"] == model]) for model in run.models}
    for position, (axes, model) in enumerate(zip(panels, run.models, strict=True)):
        colour = SERIES[position % len(SERIES)]
        images = table[table["model"] == model]
        axes.plot(
            images["area"], images["dice"], ".", color=colour, markersize=3, alpha=0.45,
            markeredgewidth=0,
        )  # fmt: skip
        for other in run.models:
            if other != model:
                axes.plot(means[other][:, 0], means[other][:, 1], color=LIGHT, zorder=1.5)
        _draw_means(axes, means[model], colour)
        axes.set_title(mark_model(model, chosen_models(run)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    sizes = table.drop_duplicates("image")["bin"].value_counts()
    details = (
        f"n = {sizes.sum()} tumour images, each a point, averaged over its repeats. Line: means of "
        f"{len(sizes)} bins of {sizes.min()} or more images by area, with 95 % bootstrap intervals "
        f"over groups; grey: the other models' means. {describe_protocol(run)}"
    )
    set_title(figure, "Dice by lesion size", details)
    return figure


def _bin_means(images: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return median area, mean Dice and the ends of its interval of each bin, (B, 4)."""
    rows = []
    for _, part in images.groupby("bin"):
        (dice,) = summarise(part[["dice"]].to_numpy(np.float64), part["group"])
        rows.append((part["area"].median(), dice.mean, dice.low, dice.high))
    return np.array(rows)


def _draw_means(axes: Axes, means: npt.NDArray[np.float64], colour: str) -> None:
    areas, dice, low, high = means.T
    axes.vlines(areas, low, high, color=INK, linewidth=1)
    axes.plot(areas, dice, "-o", color=INK, markerfacecolor=colour, markersize=4)
