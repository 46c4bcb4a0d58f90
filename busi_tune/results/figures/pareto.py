"""What a better value costs: the complete trials of a search with several objectives."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.results.figures.search_curves import label_axes
from busi_tune.results.figures.style import GREY, VALIDATION, new_figure, save_figure, set_title
from busi_tune.results.pages.pareto import is_on_front, objective_columns
from busi_tune.results.read import SearchRun

LABELS = {
    "num_parameters": "Parameters (log scale)",
    "milliseconds_per_image": "Milliseconds per image",
}


def write_pareto_figure(run: SearchRun) -> None:
    """Write the figure; nothing of a search with one objective or without a complete trial."""
    if len(objective_columns(run)) > 1 and is_on_front(run).any():
        save_figure(plot_pareto(run), run.folder / run_directory.FIGURES, "pareto")


def plot_pareto(run: SearchRun) -> Figure:
    """Draw the value of each complete trial over each of its costs; the front is named."""
    costs = [column for column in objective_columns(run) if column != "value"]
    figure = new_figure(height=3.0)
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    front = is_on_front(run)
    complete = run.trials[run.trials["state"] == "COMPLETE"]
    for axes, cost in zip(panels, costs, strict=True):
        _draw_panel(axes, complete, front[complete.index], cost)
        label_axes(axes, LABELS[cost], run.monitor)
        if cost == "num_parameters":
            axes.set_xscale("log")
    for axes in panels[1:]:
        axes.set_ylabel("")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    details = (
        f"n = {len(complete)} complete trials, {front.sum()} of them on the front, with their "
        "numbers. Mean over the validation images. "
        "On the front: no other trial is as good in all objectives and better in one."
    )
    set_title(figure, "Pareto front of the search", details)
    return figure


def _draw_panel(axes: Axes, trials: pd.DataFrame, front: "pd.Series[bool]", cost: str) -> None:
    best, others = trials[front].sort_values(cost), trials[~front]
    axes.plot(
        others[cost], others["value"], "o", color=GREY, fillstyle="none", label="dominated",
        linestyle="none", markersize=4.5,
    )  # fmt: skip
    axes.plot(
        best[cost], best["value"], "D", color=VALIDATION, label="front", linestyle="none",
        markersize=4.5, zorder=3,
    )  # fmt: skip
    for _, trial in best.iterrows():
        axes.annotate(
            f"{trial['trial']}", (trial[cost], trial["value"]), xytext=(4, 3),
            textcoords="offset points", fontsize=6,
        )  # fmt: skip
