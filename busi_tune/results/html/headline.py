"""The answer of a run in one or two sentences: which model, by how much, how sure."""

from typing import Any

import pandas as pd

from busi_tune.results.closing import find_judged, find_leader, judged_pairs, primary_images
from busi_tune.results.marks import CHOSEN
from busi_tune.results.pages.conclusions import CLAIM
from busi_tune.results.pages.tables import format_estimate, format_score
from busi_tune.results.pages.winner import closed_test_table, read_refitted
from busi_tune.results.read import SearchRun


def describe_kfold(models: pd.DataFrame, pairs: pd.DataFrame | None) -> str:
    """Name the leading model, its Dice with the interval, and over which models that is a claim.

    For a leader that was chosen on these images none is made; the best that was not is named too,
    with those over which it may be claimed.

    Args:
        models: the table of models.
        pairs: the table of pairs; None where there is a single model.
    """
    leader, images = find_leader(models), primary_images(models)
    shown = {str(row["model"]): row for _, row in models[models["images"] == images].iterrows()}
    size = f"{_size(shown[leader])} on {int(shown[leader]['num_images'])} {images} images"
    if pairs is None:
        return f"{leader}: {size}."
    judged = find_judged(models)
    if judged == leader:
        return f"{leader} leads with {size}{_standing(models, pairs, leader)}."
    said = f"{leader} leads with {size}; no claim is made for it, since it was {CHOSEN}."
    if judged is None:
        return f"{said} So were all others."
    best = f"{judged} is the best with {_size(shown[judged])}"
    return f"{said} Of the models that were not, {best}{_standing(models, pairs, judged)}."


def _size(row: "pd.Series[Any]") -> str:
    return f"Dice {format_estimate(row, 'dice')}"


def _standing(models: pd.DataFrame, pairs: pd.DataFrame, model: str) -> str:
    """Say over which models one is better, with a colon before it; empty where it is alone."""
    own = judged_pairs(models, pairs, model)
    others = own["first"].where(own["first"] != model, own["second"])
    marked = list(others[own["verdict"] == CHOSEN])
    beaten = list(others[_favours(own, model)])
    opened = [other for other in others if other not in (*beaten, *marked)]
    said = [
        f"{words} {_join(names)}{after}"
        for words, names, after in (
            ("better than", beaten, " by the rule of claims"),
            ("not settled against", opened, ""),
            ("no claim against", marked, f", {CHOSEN}"),
        )
        if names
    ]
    return f": {'; '.join(said)}" if said else ""


def describe_search(run: SearchRun) -> str:
    """Name the winner with its Dice on the closed test part, or the best trial where none is."""
    refitted = read_refitted(run)
    if refitted is not None:
        tested = closed_test_table(refitted)
        own = tested[(tested["model"] == refitted.winner) & (tested["images"] == "tumour")]
        if len(own):
            size = f"Dice {format_estimate(own.iloc[0], 'dice')}"
            number = int(own["num_images"].iloc[0])
            return f"{refitted.winner} wins: {size} on the {number} tumour images kept closed."
        return f"{refitted.winner} wins by its refits; no closed test image tells how it does."
    leaders = run.leaders(1)
    if not len(leaders):
        return "No trial is complete."
    trial, value = leaders[["trial", "value"]].iloc[0]
    return (
        f"Trial {trial:.0f} is the best of {len(run.trials)} by {run.monitor}, "
        f"{format_score(value)}: chosen for being best, so no estimate for other images."
    )


def _favours(pairs: pd.DataFrame, leader: str) -> "pd.Series[bool]":
    """Tell for which pairs the leader may be called better."""
    sign = (pairs["first"] == leader).map({True: 1, False: -1})
    return (pairs["verdict"] == CLAIM) & (sign * pairs["difference"] > 0)


def _join(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
