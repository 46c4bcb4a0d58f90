"""Where the seconds of a search went."""

import pandas as pd
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.results.figures.style import LIGHT, SERIES, new_figure, save_figure, set_title
from busi_tune.results.read import SearchRun, read_table

_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_COLOURS = {"complete": SERIES[0], "pruned": LIGHT, "failed": SERIES[5], "refits": SERIES[1]}
ARCHITECTURE = "model.architecture"


def write_search_budget(run: SearchRun) -> None:
    """Write the figure, where any trial has taken time."""
    spent = spent_seconds(run)
    if spent.to_numpy().sum() > 0:
        save_figure(plot_budget(run, spent), run.folder / run_directory.FIGURES, "budget")


def spent_seconds(run: SearchRun) -> pd.DataFrame:
    """Sum the training seconds of the trials and of the refits.

    Returns:
        A row per architecture, where it was searched, and one of all trials; one of the refits,
        where there are any. Columns complete, pruned, failed and refits.
    """
    searched = ARCHITECTURE in run.trials
    owners = run.trials[ARCHITECTURE] if searched else pd.Series("trials", run.trials.index)
    states = run.trials["state"].map(_STATES)
    seconds = run.trials["seconds"].fillna(0.0).astype(float)
    table = seconds.groupby([owners.astype(str), states]).sum().unstack().fillna(0.0)
    table = table.reindex(columns=list(_COLOURS), fill_value=0.0)
    table = table.loc[table.sum(axis=1).sort_values(kind="stable").index]
    refits = read_table(run.folder / run_directory.REFITS, ["seconds"])["seconds"].sum()
    if refits:
        table.loc["refits", "refits"] = refits
    return table.fillna(0.0)


def plot_budget(run: SearchRun, spent: pd.DataFrame) -> Figure:
    """Draw the seconds as stacked bars."""
    figure = new_figure(height=1.1 + 0.25 * len(spent))
    axes = figure.subplots()
    left = pd.Series(0.0, spent.index)
    for state, colour in _COLOURS.items():
        if spent[state].sum():
            axes.barh(spent.index, spent[state] / 60, left=left / 60, color=colour, label=state)
            left = left + spent[state]
    axes.set_xlabel("Minutes of training, summed over trainings")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper right", ncols=len(_COLOURS))
    hours = spent.to_numpy().sum() / 3600
    details = f"n = {len(run.trials)} trials, {hours:.2g} hours of training in all."
    set_title(figure, "Where the time went", details)
    return figure
