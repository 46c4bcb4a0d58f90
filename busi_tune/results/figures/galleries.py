"""Images on which a model does best and worst, and on which two models disagree."""

import logging
import textwrap
from collections.abc import Sequence
from itertools import combinations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.results.figures.overlays import Predictions, draw_outline
from busi_tune.results.figures.style import PREDICTION, TRUTH, new_figure, save_figure, set_title
from busi_tune.results.marks import chosen_models, mark_model
from busi_tune.results.pages.kfold_tables import describe_protocol
from busi_tune.results.read import KfoldRun

RANKS = ("Worst", "Median", "Best")
NUM_EACH = 2
NUM_DISAGREEMENTS = 6
OUTLINES = "Solid, blue: ground truth; dashed, orange: prediction. At most one image of a group."

logger = logging.getLogger(__name__)


def write_galleries(run: KfoldRun, images: ImageSet) -> None:
    """Write a gallery per model and one of disagreements, from the predictions that are there."""
    folder = run.folder / run_directory.FIGURES
    first = run.images[run.images["repeat"] == 0]
    shown = {}
    for model in run.models:
        rows = first[first["model"] == model].set_index("image")
        predictions = run.folder / run_directory.PREDICTIONS / model
        threshold = run.setting(model, "training.threshold")
        shown[model] = Predictions(images, predictions, rows, threshold)
        chosen = choose_by_class(rows)
        names = [name for ranks in chosen.values() for names in ranks for name in names]
        if _is_complete(model, shown[model], names):
            figure = plot_gallery(run, model, chosen, shown[model])
            save_figure(figure, folder, f"gallery-{model}", vector=False)
    with_maps = [model for model in run.models if shown[model].folder.is_dir()]
    disagreements = choose_disagreements(first, with_maps)
    pairs = [(model, name) for name, *models in disagreements for model in models]
    if pairs and all(_is_complete(model, shown[model], [name]) for model, name in pairs):
        figure = plot_disagreements(run, disagreements, shown)
        save_figure(figure, folder, "disagreements", vector=False)


def choose_by_class(rows: pd.DataFrame) -> dict[str, list[list[str]]]:
    """Choose the worst, median and best images of each class by Dice.

    Of equals those with more false pixels count as worse.

    Args:
        rows: a model's rows of images.csv, by the image's name.

    Returns:
        For each class the names of each of `RANKS`, worst first; none is named twice.
    """
    chosen = {}
    for label, images in rows.groupby("label"):
        ordered = images.sort_values(["dice", "fp"], ascending=[True, False], kind="stable")
        names = [str(name) for name in ordered.drop_duplicates("group").index]
        number = min(NUM_EACH, len(names) // len(RANKS))
        middle = (len(names) - number) // 2
        ranks = [names[:number], names[middle : middle + number], names[len(names) - number :]]
        if number:
            chosen[str(label)] = ranks
    return chosen


def choose_disagreements(rows: pd.DataFrame, models: Sequence[str]) -> list[tuple[str, str, str]]:
    """Choose the tumour images on which the Dice of two models differs most.

    Returns:
        Image, better model and worse model, the largest difference first.
    """
    tumour = rows[rows["has_lesion"]]
    dice = tumour.pivot(index="image", columns="model", values="dice")
    dice = dice.reindex(columns=list(models))
    groups = tumour.drop_duplicates("image").set_index("image")["group"]
    found = []
    for first, second in combinations(models, 2):
        difference = (dice[first] - dice[second]).dropna()
        found += [
            (abs(gap), str(name), *((first, second) if gap > 0 else (second, first)))
            for name, gap in difference.items()
            if gap
        ]
    chosen: dict[str, tuple[str, str, str]] = {}
    for _, name, better, worse in sorted(found, key=lambda case: (-case[0], case[1])):
        chosen.setdefault(str(groups[name]), (name, better, worse))
    return list(chosen.values())[:NUM_DISAGREEMENTS]


def plot_gallery(
    run: KfoldRun, model: str, chosen: dict[str, list[list[str]]], shown: Predictions
) -> Figure:
    """Draw a row per class, the worst images on the left and the best on the right."""
    columns = NUM_EACH * len(RANKS)
    figure = new_figure(height=0.9 + 1.25 * len(chosen))
    panels = figure.subplots(len(chosen), columns, squeeze=False)
    for axes in panels.flat:
        axes.set_visible(False)
    for row, (label, ranks) in zip(panels, chosen.items(), strict=True):
        row[0].set_ylabel(label)
        for rank, names in enumerate(ranks):
            for axes, name in zip(row[NUM_EACH * rank :], names, strict=False):
                _draw_case(axes, name, shown)
    for rank, title in enumerate(RANKS):
        panels[0, NUM_EACH * rank].set_title(title)
    details = (
        f"n = {len(shown.rows)} test images; of each class the {NUM_EACH} worst, the {NUM_EACH} in "
        f"the middle and the {NUM_EACH} best by Dice, of equals those with more false pixels as "
        f"worse. {OUTLINES} {describe_protocol(run)}"
    )
    name = mark_model(model, chosen_models(run))
    set_title(figure, f"Worst, median and best test images of {name}", details)
    return figure


def plot_disagreements(
    run: KfoldRun, chosen: Sequence[tuple[str, str, str]], shown: dict[str, Predictions]
) -> Figure:
    """Draw the better prediction of each image above the worse one."""
    figure = new_figure(height=3.6)
    panels = figure.subplots(2, NUM_DISAGREEMENTS, squeeze=False)
    for axes in panels.flat:
        axes.set_visible(False)
    for column, (name, *models) in zip(panels.T, chosen, strict=False):
        for axes, model in zip(column, models, strict=True):
            _draw_case(axes, name, shown[model])
            title = mark_model(model, chosen_models(run))
            axes.set_title(textwrap.fill(title, 20), fontsize=7)
    number = shown[chosen[0][1]].rows["has_lesion"].sum()
    details = (
        f"n = {number} test images with a lesion; the {len(chosen)} with the largest difference in "
        f"Dice between two models, the better one above. {OUTLINES} {describe_protocol(run)}"
    )
    set_title(figure, "Where two models disagree most", details)
    return figure


def _draw_case(axes: Axes, name: str, shown: Predictions) -> None:
    axes.set_visible(True)
    axes.set_anchor("N")
    shown.show_input(axes, name)
    draw_outline(axes, shown.truth(name), TRUTH, "solid")
    draw_outline(axes, shown.binary(name), PREDICTION, "dashed")
    axes.set_xlabel(f"{name}\nDice {float(shown.rows['dice'][name]):.3f}", fontsize=6)


def _is_complete(model: str, shown: Predictions, names: Sequence[str]) -> bool:
    missing = [name for name in names if not (shown.folder / f"{name}.png").exists()]
    if missing:
        logger.warning("no gallery of %s: %s has no %s.png", model, shown.folder, missing[0])
    return bool(names) and not missing
