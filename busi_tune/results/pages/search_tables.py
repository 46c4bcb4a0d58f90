"""The tables of a search: its trials, best first, and what each choice came to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.pages.tables import Table, format_value, write_csv, write_page
from busi_tune.results.read import SearchRun
from busi_tune.search_space import Dimension, compile_space

NUM_LEADERS = 10
OPTIMIZER = "optimizer.name"
REPORT_ON_ADAM = (
    'The report chose Adam "after evaluating its effectiveness against other common optimizers" '
    f"and gives no figures: the rows of {OPTIMIZER} are such figures, in this space."
)
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
COST = [
    "epochs", "best_epoch", "seconds", "num_parameters", "milliseconds_per_image", "num_workers",
]  # fmt: skip


def write_search_tables(run: SearchRun) -> None:
    """Write trials and choices as CSV and Markdown."""
    folder = run.folder / run_directory.TABLES
    ranked = rank_trials(run)
    write_csv(folder / "trials.csv", ranked)
    leaders = leaders_table(run)
    caption = (
        f"{_count_states(run)}. The {len(leaders)} best by {run.monitor}, the mean over the "
        "validation images at training size in the best epoch: chosen for being best, they are "
        f"no estimate of performance on other images. {EMPTY_RULE}"
    )
    write_page(folder, "trials", "Trials", [Table(caption, leaders)])
    choices = choices_table(run)
    write_csv(folder / "choices.csv", choices)
    caption = (
        f"Best and median {run.monitor} of the complete trials with each choice, and the best that "
        "any of them had seen, pruned ones included. A setting under a condition counts where it "
        f"was in use. {_how_drawn(run)}"
    )
    optimizers = choices[choices["setting"] == OPTIMIZER]
    if (optimizers["complete"] > 0).sum() > 1:
        caption += f" {REPORT_ON_ADAM}"
    listed = Table(caption, choices) if len(choices) else "The space has no setting with choices."
    write_page(folder, "choices", "Choices", [listed])


def _how_drawn(run: SearchRun) -> str:
    """Say how far the trials are a random sample of the space."""
    search = run.config.search
    no_test = "differences between rows are no test"
    if search.sampler != "random":
        return (
            "The search tries good choices more often, so counts are no random sample of the "
            f"space, and {no_test}."
        )
    drawn = "Trials are draws at random from the space"
    if search.start:
        drawn += ", but for known configurations (`search.start`), which are tried first"
    if "PRUNED" in set(run.trials["state"]):
        drawn += "; some were stopped, so the complete ones are no random sample"
    return f"{drawn}. {no_test.capitalize()}."


def rank_trials(run: SearchRun) -> pd.DataFrame:
    """Order all trials: complete ones best first, then pruned and failed ones by number.

    `best_seen` is the best value until a trial ended, also where it was stopped or failed.
    """
    leaders = run.leaders(len(run.trials))
    others = run.trials.drop(leaders.index).sort_values(["state", "trial"], ascending=[False, True])
    ranked = pd.concat([leaders, others]).rename(columns={"best": "best_seen"})
    ranked.insert(list(ranked).index("value") + 1, "best_seen", ranked.pop("best_seen"))
    return ranked


def leaders_table(run: SearchRun) -> pd.DataFrame:
    """Return the best complete trials with their cost and settings; settings all lack are left."""
    leaders = run.leaders(NUM_LEADERS)
    used = [
        name
        for name in (*COST, *run.settings)
        if name in leaders and (leaders[name].notna().any() or leaders.empty)
    ]
    table = leaders[["trial", "value", *used]].rename(columns={"value": run.monitor})
    return table.convert_dtypes()


def choices_table(run: SearchRun) -> pd.DataFrame:
    """Summarise the trials by each value of each setting that is a choice.

    A constant is one where its condition leaves some trials without it.

    Returns:
        Columns setting, choice, trials, complete, pruned, failed, best, median, best_seen.
    """
    rows = []
    space = compile_space(run.config.search.space)
    trials = _add_constants(run.trials, space)
    for dimension in space:
        if not dimension.choices or (dimension.is_constant and not dimension.when):
            continue
        for choice in dimension.choices:
            tried = trials[equals_choice(trials[dimension.name], choice)]
            values = tried.loc[tried["state"] == "COMPLETE", "value"]
            best, best_seen = (
                each.max() if run.maximises else each.min() for each in (values, tried["best"])
            )
            rows.append(
                {"setting": dimension.name, "choice": format_value(choice), "trials": len(tried)}
                | {name: int((tried["state"] == state).sum()) for state, name in STATES.items()}
                | {"best": best, "median": values.median(), "best_seen": best_seen}
            )
    columns = ["setting", "choice", "trials", *STATES.values(), "best", "median", "best_seen"]
    return pd.DataFrame(rows, columns=columns)


def _add_constants(trials: pd.DataFrame, space: Sequence[Dimension]) -> pd.DataFrame:
    """Add the constants of a space, which trials.csv leaves out, where their condition holds."""
    trials = trials.copy()
    for constant in (dimension for dimension in space if dimension.is_constant):
        in_use = pd.Series(True, trials.index)
        for name, allowed in constant.when:
            in_use &= sum(equals_choice(trials[name], value) for value in allowed) > 0
        whole = pd.Series(constant.choices[0], trials.index, dtype=object)
        trials[constant.name] = whole.where(in_use)
    return trials


def console_rows(run: SearchRun) -> list[dict[str, str]]:
    """Return a row per leading trial for the terminal."""
    return [
        {str(name): format_value(value) for name, value in row.items()}
        for _, row in leaders_table(run).astype(object).iterrows()
    ]


def _count_states(run: SearchRun) -> str:
    states = run.trials["state"].value_counts()
    counts = ", ".join(f"{states.get(state, 0)} {name}" for state, name in STATES.items())
    return f"{len(run.trials)} trials: {counts}"


def equals_choice(column: "pd.Series[Any]", choice: object) -> "pd.Series[bool]":
    """Compare a column as read from CSV, where a gap makes 8 to 8.0, with a value of the space."""
    if isinstance(choice, int | float) and not isinstance(choice, bool):
        return pd.Series(np.isclose(pd.to_numeric(column, errors="coerce"), choice), column.index)
    return column.astype(str) == str(choice)
