"""How far apart the models are on the same images, pair by pair."""

import pandas as pd
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.results.figures.style import GREY, INK, SERIES, new_figure, save_figure, set_title
from busi_tune.results.marks import chosen_models, mark_model
from busi_tune.results.pages.conclusions import CAVEAT, CLAIM
from busi_tune.results.pages.kfold_tables import describe_protocol
from busi_tune.results.pages.pairs import PRIMARY
from busi_tune.results.read import KfoldRun


def write_differences(run: KfoldRun, compared: pd.DataFrame) -> None:
    """Write the paired differences of Dice over the tumour images.

    Args:
        run: the cross-validation.
        compared: what is in its pairs.csv.
    """
    pairs = compared[(compared["score"] == PRIMARY) & (compared["images"] == "tumour")]
    folder = run.folder / run_directory.FIGURES
    save_figure(plot_differences(run, pairs), folder, "differences")


def plot_differences(run: KfoldRun, pairs: pd.DataFrame) -> Figure:
    """Draw each pair's mean difference with its intervals over images and over trainings.

    Args:
        run: the cross-validation.
        pairs: its table of pairs, by Dice over the tumour images.
    """
    figure = new_figure(height=1.35 + 0.36 * len(pairs))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, (_, pair) in enumerate(pairs[::-1].iterrows()):
        claimed = pair["verdict"] == CLAIM
        axes.hlines(row - 0.14, pair["corrected_low"], pair["corrected_high"], color=GREY)
        axes.hlines(row + 0.1, pair["low"], pair["high"], color=SERIES[0], linewidth=2.4)
        axes.plot(
            pair["difference"], row + 0.1, "D", color=SERIES[0], markersize=5,
            markerfacecolor=SERIES[0] if claimed else "white",
        )  # fmt: skip
        size = f"{pair['difference']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]"
        axes.annotate(
            size.replace("-", "\N{MINUS SIGN}"), (1.01, row),
            xycoords=("axes fraction", "data"), va="center", fontsize=7,
        )  # fmt: skip
    chosen = chosen_models(run)
    names = [
        f"{mark_model(pair['first'], chosen)} \N{MINUS SIGN} {mark_model(pair['second'], chosen)}"
        for _, pair in pairs[::-1].iterrows()
    ]
    axes.set_yticks(range(len(pairs)), names)
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Difference in Dice (first \N{MINUS SIGN} second)")
    number, groups = pairs["num_images"].max(), pairs["num_groups"].max()
    details = (
        f"n = {number} tumour images in {groups} groups, each averaged over its repeats. Blue: "
        "mean with its 95 % bootstrap interval over groups, filled where a claim is made; grey: "
        f"95 % interval of the corrected t test over {pairs['num_trainings'].max()} trainings. "
        f"{CAVEAT} {describe_protocol(run)}"
    )
    set_title(figure, "Paired differences of the models", details)
    return figure
