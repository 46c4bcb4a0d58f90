"""Dice over the threshold, on validation and test images."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.results.figures.style import MARKERS, SERIES, new_figure, save_figure, set_title
from busi_tune.results.marks import chosen_models, explain_mark, mark_model
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.read import KfoldRun, read_table
from busi_tune.results.repeats import average_repeats

PREFIX = "dice_"
PARTS = {"validation": "--", "test": "-"}
SHAPES = tuple(marker for marker in MARKERS if marker not in "oD")
"""By which models differ in grey; discs and diamonds mark thresholds."""
EVERY = 4
"""Points of a curve from one shape to the next."""


def write_thresholds(run: KfoldRun) -> None:
    """Write the curves of a run that has thresholds.csv."""
    path = run.folder / run_directory.THRESHOLDS
    if path.exists():
        figure = plot_thresholds(run, read_thresholds(run))
        save_figure(figure, run.folder / run_directory.FIGURES, "thresholds")


def read_thresholds(run: KfoldRun) -> pd.DataFrame:
    """Read thresholds.csv, with `has_lesion` of every image."""
    table = read_table(run.folder / run_directory.THRESHOLDS, [])
    # Only images.csv knows the masks, also those of validation images that no fold tests.
    images = read_table(run.folder / run_directory.IMAGES, []).drop_duplicates("image")
    lesions = pd.Series((images["tp"] + images["fn"] > 0).to_numpy(), images["image"])
    return table.assign(has_lesion=table["image"].map(lesions).astype(bool))


def plot_thresholds(run: KfoldRun, table: pd.DataFrame) -> Figure:
    """Draw the mean Dice of every model at every threshold, a panel per set of images."""
    sets = {"Tumour images": table[table["has_lesion"]], "All images": table}
    figure = new_figure(height=3.2)
    panels = figure.subplots(1, 2, sharex=True)
    for axes, (title, images) in zip(panels, sets.items(), strict=True):
        for position, model in enumerate(run.models):
            _draw_model(axes, run, images[images["model"] == model], model, position)
        tested = images[images["part"] == "test"]["image"].nunique()
        axes.set_title(f"{title}, n = {tested}")
        axes.set_xlabel("Threshold (probability)")
        axes.set_ylabel("Mean Dice")
        axes.set_xlim(0, 1)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    details = (
        "Mean over images, each averaged over its repeats, of Dice in original pixels, no "
        "component removed; n: test images. Solid: test, dashed: validation parts. Disc: the "
        "threshold of the tables, or the one nearest to it that was tried; diamonds: thresholds "
        "chosen on the validation part of each training. "
        f"{EMPTY_RULE}{explain_mark(run)}"
    )
    set_title(figure, "Dice over the threshold", details)
    return figure


def _draw_model(axes: Axes, run: KfoldRun, images: pd.DataFrame, model: str, position: int) -> None:
    colour, shape = SERIES[position % len(SERIES)], SHAPES[position % len(SHAPES)]
    columns = [str(column) for column in images if str(column).startswith(PREFIX)]
    thresholds = [float(column.removeprefix(PREFIX)) for column in columns]
    curves = pd.DataFrame({
        part: average_repeats(rows, columns)[columns].mean()
        for part, rows in images.groupby("part")
    }).T  # fmt: skip
    for part, line in PARTS.items():
        if part in curves.index:
            label = mark_model(model, chosen_models(run)) if part == "test" else None
            axes.plot(
                thresholds, curves.loc[part], line, color=colour, label=label, marker=shape,
                markersize=3.5, markevery=(position % EVERY, EVERY),
            )  # fmt: skip
    if "test" not in curves.index:
        return
    test = pd.Series(curves.loc["test"].to_numpy(), thresholds)
    own = run.setting(model, "training.threshold")
    folds = run.folds[run.folds["model"] == model]
    tuned = folds.get("tuned_threshold", pd.Series(dtype=float)).dropna()
    for mark, places in (("D", list(tuned)), ("o", [] if own is None else [own])):
        drawn = test.iloc[sorted({_nearest(thresholds, place) for place in places})]
        axes.plot(
            drawn.index, drawn, mark, color=colour, markersize=4 if mark == "o" else 7,
            markerfacecolor=colour if mark == "o" else "white", linestyle="none",
        )  # fmt: skip


def _nearest(thresholds: list[float], place: float) -> int:
    """Return the position of the threshold nearest to a place."""
    return min(range(len(thresholds)), key=lambda position: abs(thresholds[position] - place))
