"""What may be said about a pair of models, in plain sentences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from busi_tune.results.pages.tables import format_interval
from busi_tune.statistics.paired import ALPHA

Row = Mapping[str, Any]

LABELS = {"dice": "Dice", "nsd": "NSD at 2 pixels", "hd95": "HD95 in pixels"}
SMALLER_IS_BETTER = ("hd95",)

CLAIM, UNDECIDED, CHOSEN, UNTESTED = "claim", "undecided", "chosen on these images", "untested"

RULE = (
    "A model is called better only where the corrected t test over trainings, adjusted by Holm's "
    f"method for all pairs of the table, is below {ALPHA:g} and the 95 % interval of the paired "
    "difference over images excludes zero. Models chosen on these images get no claim. Dice on "
    "tumour images is the primary outcome; Holm's method does not reach across tables."
)


def conclude(row: Row, score: str, chosen: list[str], epochs: tuple[float, float]) -> str:
    """Say what a pair of models allows to say.

    Args:
        row: of the table of pairs, with its verdict.
        score: name of the score's column.
        chosen: those of the two that were chosen on these images.
        epochs: the most that a training of the first and of the second took.
    """
    none = f"No claim on {row['first']} against {row['second']}"
    if row["verdict"] == CHOSEN:
        were = "were" if len(chosen) > 1 else "was"
        models = " and ".join(chosen)
        return f"{none}: {models} {were} chosen on these images, which flatters the figures."
    if row["verdict"] == UNTESTED:
        return (
            f"{none}: the test over trainings needs at least two of each on the same folds, "
            f"and there {'is 1' if row['num_trainings'] == 1 else 'are none'}."
        )
    size = format_interval(row["difference"], row["low"], row["high"])
    said = f"{none}: the difference of {size} in {LABELS.get(score, score)} is not settled"
    sentence = f"{said} ({_test(row)}). {_outlook(row)}"
    if row["verdict"] == CLAIM:
        sentence = _claim(row, score)
    if any(pd.isna(number) for number in epochs):
        return f"{sentence} Their budgets cannot be compared: one is not known."
    if epochs[0] == epochs[1]:
        return sentence
    return f"{sentence} Their budgets differ: up to {epochs[0]:g} and {epochs[1]:g} epochs."


def _claim(row: Row, score: str) -> str:
    smaller, larger = row["first"], row["second"]
    sizes = -row["difference"], -row["high"], -row["low"]
    if row["difference"] > 0:
        smaller, larger = larger, smaller
        sizes = row["difference"], row["low"], row["high"]
    size, label = format_interval(*sizes), LABELS.get(score, score)
    if score in SMALLER_IS_BETTER:
        return (
            f"{smaller} is better than {larger}: its {label} is smaller by {size} ({_test(row)})."
        )
    return f"{larger} is better than {smaller}: its {label} is higher by {size} ({_test(row)})."


def _test(row: Row) -> str:
    p = row["corrected_t_holm"]
    written = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return (
        f"{row['num_images']} images; corrected t test over {row['num_trainings']} trainings, "
        f"{written} after Holm"
    )


def _outlook(row: Row) -> str:
    found = f"A difference of {row['detectable']:.3f} could have been detected with a power of 80 %"
    if row["corrected_t_holm"] < ALPHA:
        return f"{found}; the interval over images asks for more images, not for more trainings."
    if row["repeats_needed"] is None:
        return (
            f"{found}; no number of repeats would settle the one observed, since all of them "
            "share these images."
        )
    return f"{found}; about {row['repeats_needed']} repeats in all would settle the one observed."


def describe_leaders(ranking: pd.DataFrame, score: str, chosen: list[str]) -> str:
    """Say that the second model's mean lies inside the first one's interval, if it does.

    Args:
        ranking: columns model, mean, low and high, the best first.
        score: name of the score's column.
        chosen: models that were chosen on these images.

    Returns:
        A sentence, empty where the mean lies outside or there is no second.
    """
    if len(ranking) < 2:
        return ""
    first, second = (row for _, row in ranking.head(2).iterrows())
    if not first["low"] <= second["mean"] <= first["high"]:
        return ""
    names = [f"{row['model']}{_mark(row['model'], chosen)}" for row in (first, second)]
    interval = format_interval(first["mean"], first["low"], first["high"])
    return (
        f"By mean {LABELS.get(score, score)}, {names[0]} is rank 1 with {interval} and {names[1]} "
        f"rank 2 with {second['mean']:.3f}: rank 2 lies inside rank 1's interval."
    )


def _mark(model: str, chosen: list[str]) -> str:
    return " (chosen on these images)" if model in chosen else ""
