"""The answer of a run in one or two sentences: which model, by how much, how sure."""

import pandas as pd

from busi_tune.results.closing import find_leader, leader_pairs, primary_images
from busi_tune.results.marks import CHOSEN
from busi_tune.results.pages.conclusions import CLAIM
from busi_tune.results.pages.tables import format_estimate, format_score
from busi_tune.results.pages.winner import closed_test_table, read_refitted
from busi_tune.results.read import SearchRun


def describe_kfold(models: pd.DataFrame, pairs: pd.DataFrame | None) -> str:
    """Name the leading model, its Dice with the interval, and over which models that is a claim.

    Args:
        models: the table of models.
        pairs: the table of pairs; None where there is a single model.
    """
    leader, images = find_leader(models), primary_images(models)
    row = models[(models["model"] == leader) & (models["images"] == images)].iloc[0]
    size = f"Dice {format_estimate(row, 'dice')} on {int(row['num_images'])} {images} images"
    if pairs is None:
        return f"{leader}: {size}."
    own = leader_pairs(models, pairs)
    others = own["first"].where(own["first"] != leader, own["second"])
    beaten = list(others[_favours(own, leader)])
    settled = f"better than {_join(beaten)} by the rule of claims" if beaten else ""
    opened = [model for model in others if model not in beaten]
    unsettled = f"not settled against {_join(opened)}" if opened else ""
    said = "; ".join(part for part in (settled, unsettled) if part)
    mark = f" It was {CHOSEN}, which flatters its figures." if row["chosen_here"] else ""
    return f"{leader} leads with {size}: {said}.{mark}"


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
