"""How often pixels of a probability are lesion, before and after the temperature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.evaluation.calibration import NUM_BINS, Floats, bin_pixels
from busi_tune.results.calibrated import SETS, Calibrated
from busi_tune.results.figures.style import (
    GREY,
    MARKERS,
    SCORE_LIMITS,
    SERIES,
    new_figure,
    save_figure,
    set_title,
)
from busi_tune.results.marks import chosen_models, explain_mark, mark_model
from busi_tune.results.read import KfoldRun

IMAGES = "tumour"


def write_reliability(run: KfoldRun, trainings: Sequence[Calibrated]) -> None:
    """Write the diagram; nothing where no training has pixels of tumour images."""
    shown = [training for training in trainings if IMAGES in training.test]
    if shown:
        figure = plot_reliability(run, shown)
        save_figure(figure, run.folder / run_directory.FIGURES, "reliability")


def plot_reliability(run: KfoldRun, trainings: Sequence[Calibrated]) -> Figure:
    """Draw the share of lesion over the probability, and below it how many pixels have that.

    Args:
        run: whose models are drawn.
        trainings: with pixels of tumour images.
    """
    figure = new_figure(height=4.4)
    panels = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    models = list(dict.fromkeys(training.model for training in trainings))
    for column, title in enumerate(("As predicted", "After the temperature")):
        curves, shares = panels[:, column]
        curves.plot([0, 1], [0, 1], "--", color=GREY, linewidth=0.8)
        for model in models:
            own = [training for training in trainings if training.model == model]
            temperatures = [training.temperature if column else 1.0 for training in own]
            bins = sum(
                map(bin_pixels, (training.test[IMAGES] for training in own), temperatures),
                start=np.zeros((NUM_BINS, 3)),
            )
            label = mark_model(model, chosen_models(run))
            _draw_model(curves, shares, bins, label, run.models.index(model))
        curves.set_title(title)
        curves.set_xlim(0, 1)
        curves.set_ylim(*SCORE_LIMITS)
        shares.set_yscale("log")
        shares.set_xlabel("Probability of lesion")
    panels[0, 0].set_ylabel("Share of lesion pixels")
    panels[1, 0].set_ylabel("Share of pixels")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper")
    pixels = sum(int(training.test[IMAGES].sum()) for training in trainings)
    details = (
        f"{SETS[IMAGES]} of the test parts in original pixels, n = {len(trainings)} trainings and "
        f"{pixels:,} pixels: the mean probability of each of {NUM_BINS} bins of equal width and "
        "the share of its pixels that are lesion. Dashed: what a calibrated network would have; "
        "below it the network sees too much lesion. The temperature of each training was fitted "
        f"on its validation part.{explain_mark(run)}"
    )
    set_title(figure, "Reliability of the probabilities", details)
    return figure


def _draw_model(curves: Axes, shares: Axes, bins: Floats, label: str, position: int) -> None:
    pixels, expected, lesion = bins[bins[:, 0] > 0].T
    look: dict[str, Any] = {
        "color": SERIES[position % len(SERIES)],
        "marker": MARKERS[position % len(MARKERS)],
        "markersize": 3,
    }
    curves.plot(expected / pixels, lesion / pixels, label=label, **look)
    shares.plot(expected / pixels, pixels / pixels.sum(), **look)
