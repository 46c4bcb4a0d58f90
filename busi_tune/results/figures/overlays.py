"""Predictions on test images: some in detail, and a sheet with outlines."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.data.pixels import read_image
from busi_tune.evaluation.levels import threshold_level
from busi_tune.results.figures.style import (
    PREDICTION,
    TRUTH,
    frame_image,
    new_figure,
    save_figure,
    set_title,
)
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.read import KfoldRun

Mask = npt.NDArray[np.bool_]

NUM_DETAILED = 5
SHEET_ROWS, SHEET_COLUMNS = 6, 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """A model's test predictions, with the images and masks that they are of."""

    images: ImageSet
    folder: Path
    rows: pd.DataFrame
    """The model's rows of images.csv, by the image's name."""
    threshold: float

    def levels(self, name: str) -> npt.NDArray[np.uint8]:
        """The image's probabilities as 8-bit grey levels (H, W)."""
        return read_image(self.folder / f"{name}.png")

    def binary(self, name: str) -> Mask:
        """The predicted mask (H, W)."""
        return self.levels(name) >= threshold_level(self.threshold)

    def truth(self, name: str) -> Mask:
        """The mask (H, W)."""
        return self.images.original_mask(self.images.names.index(name))

    def show_input(self, axes: Axes, name: str) -> None:
        """Draw the image as the network saw it, in its own proportions."""
        index = self.images.names.index(name)
        height, width = self.images.sizes[index]
        axes.imshow(
            self.images.content(index), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0)
        )
        frame_image(axes)


def write_overlays(run: KfoldRun, images: ImageSet) -> None:
    """Write both figures for every model whose predictions are there, on the same images."""
    folder = run.folder / run_directory.FIGURES
    first = run.images[run.images["repeat"] == 0]
    detailed = choose_detailed(first, run.config.seed)
    sheet = choose_sheet(first, run.config.seed)
    for model in run.models:
        predictions = run.folder / run_directory.PREDICTIONS / model
        missing = [n for n in (*detailed, *sheet) if not (predictions / f"{n}.png").exists()]
        if missing:
            logger.warning("no overlays of %s: %s has no %s.png", model, predictions, missing[0])
            continue
        rows = first[first["model"] == model].set_index("image")
        shown = Predictions(images, predictions, rows, run.setting(model, "training.threshold"))
        for name, names, plot in (
            ("overlays", detailed, plot_detailed),
            ("sheet", sheet, plot_sheet),
        ):
            if names:
                save_figure(plot(model, names, shown), folder, f"{name}-{model}", vector=False)


def choose_detailed(rows: pd.DataFrame, seed: int) -> list[str]:
    """Draw a tumour image from each fifth by Dice, the mean over the models; worst first."""
    dice = _mean_dice(rows[rows["has_lesion"]])
    generator = np.random.default_rng(seed)
    parts = np.array_split(dice.index.to_numpy(), NUM_DETAILED)
    return [str(generator.choice(part)) for part in parts if len(part)]


def choose_sheet(rows: pd.DataFrame, seed: int) -> list[str]:
    """Draw test images for the sheet, in the order of their mean Dice over the models."""
    dice = _mean_dice(rows)
    number = min(SHEET_ROWS * SHEET_COLUMNS, len(dice))
    chosen = np.random.default_rng(seed).choice(len(dice), number, replace=False)
    return [str(name) for name in dice.index[np.sort(chosen)]]


def plot_detailed(model: str, names: Sequence[str], shown: Predictions) -> Figure:
    """Draw input, probability, binary prediction and ground truth, a row per image."""
    figure = new_figure(height=0.8 + 1.35 * len(names))
    panels = figure.subplots(len(names), 4, squeeze=False)
    titles = ("Input", "Probability", "Binary", "Ground truth")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    for axes in panels.flat:
        axes.set_anchor("W")
    for row, name in zip(panels, names, strict=True):
        shown.show_input(row[0], name)
        for axes, picture in zip(
            row[1:], (shown.levels(name) / 255, shown.binary(name), shown.truth(name)), strict=True
        ):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
            frame_image(axes)
        dice = float(shown.rows["dice"][name])
        row[0].set_ylabel(f"{name}\nDice {dice:.3f}", fontsize=7)
    details = (
        f"n = {len(names)} tumour images of the test parts, one drawn at random from each "
        f"fifth of them by Dice (mean over models), worst first. Probability: black 0, "
        f"white 1; threshold {shown.threshold:g}. Dice in original pixels. {EMPTY_RULE}"
    )
    set_title(figure, f"Test predictions of {model}", details)
    return figure


def plot_sheet(model: str, names: Sequence[str], shown: Predictions) -> Figure:
    """Draw images with the outlines of truth and prediction."""
    rows = -(-len(names) // SHEET_COLUMNS)
    figure = new_figure(height=0.8 + 0.9 * rows)
    panels = figure.subplots(rows, SHEET_COLUMNS, squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, names, strict=False):
        axes.set_anchor("NW")
        shown.show_input(axes, name)
        draw_outline(axes, shown.truth(name), TRUTH, "solid")
        draw_outline(axes, shown.binary(name), PREDICTION, "dashed")
        label, dice = shown.rows["label"][name], float(shown.rows["dice"][name])
        axes.set_title(f"{label} {dice:.2f}", fontsize=6, fontweight="normal", pad=2)
    details = (
        f"n = {len(names)} test images drawn at random, by Dice (mean over models), worst first; "
        f"above each its class and {model}'s Dice in original pixels, threshold "
        f"{shown.threshold:g}. Solid, blue: ground truth; dashed, orange: prediction. {EMPTY_RULE}"
    )
    set_title(figure, f"Test predictions of {model}", details)
    return figure


def draw_outline(axes: Axes, mask: Mask, colour: str, line: str) -> None:
    """Draw the border of a mask (H, W), which may be empty."""
    if mask.any() and not mask.all():
        height, width = mask.shape
        axes.contour(
            np.arange(width) + 0.5, np.arange(height) + 0.5, mask, levels=[0.5],
            colors=[colour], linestyles=[line], linewidths=0.8,
        )  # fmt: skip


def _mean_dice(rows: pd.DataFrame) -> "pd.Series[float]":
    """Average over the models, in rising order, where all of them have tested an image."""
    tests = rows.groupby("image")["dice"]
    return tests.mean()[tests.size() == rows["model"].nunique()].sort_values(kind="stable")
