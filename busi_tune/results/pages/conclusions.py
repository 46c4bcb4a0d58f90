"""What may be said about a pair of models, in plain sentences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from busi_tune.results.cost import Budget
from busi_tune.results.marks import CHOSEN
from busi_tune.results.pages.tables import format_estimate, format_interval, state_p
from busi_tune.statistics.paired import ALPHA

Row = Mapping[str, Any]

CLAIM, UNDECIDED, UNTESTED = "claim", "undecided", "untested"
"""The verdicts besides `CHOSEN`."""

NOTABLE_RATIO = 1.5
"""Of seconds; smaller ones come of what else a machine does."""

RULE = (
    "A model is called better only where the corrected t test over trainings, adjusted by Holm's "
    f"method for all pairs of the table, is below {ALPHA:g} and the 95 % interval of the paired "
    "difference over images excludes zero. Models chosen on these images get no claim. Dice on "
    "tumour images is the primary outcome; Holm's method does not reach across tables."
)
CAVEAT = (
    "The bootstrap interval over groups holds the trained networks fixed: under noise of training "
    "such an interval missed the true difference in 10 % to 50 % of runs in simulation, not in 5 %."
)


def conclude(row: Row, chosen: list[str], budgets: tuple[Budget, Budget]) -> str:
    """Say what a pair of models allows to say.

    Args:
        row: of the table of pairs by Dice, with its verdict.
        chosen: those of the two that were chosen on these images.
        budgets: what a fold of the first and of the second took.
    """
    none = f"No claim on {row['first']} against {row['second']}"
    if row["verdict"] == CHOSEN:
        were = "were" if len(chosen) > 1 else "was"
        models = " and ".join(chosen)
        return f"{none}: {models} {were} {CHOSEN}, which flatters the figures."
    if row["verdict"] == UNTESTED:
        return (
            f"{none}: the test over trainings needs at least two of each on the same folds, "
            f"and there {'is 1' if row['num_trainings'] == 1 else 'are none'}."
        )
    size = format_interval(row["difference"], row["low"], row["high"])
    said = f"{none}: the difference of {size} in Dice is not settled"
    sentence = f"{said} ({_test(row)}). {_outlook(row)}"
    if row["verdict"] == CLAIM:
        sentence = _claim(row)
    return f"{sentence}{compare_budgets(*budgets)}"


def compare_budgets(first: Budget, second: Budget) -> str:
    """Say how two budgets differ, with a space before it; empty where they hardly do."""
    if pd.isna(first.epochs) or pd.isna(second.epochs):
        return " Their budgets cannot be compared: one is not known."
    said = []
    if first.trainings != second.trainings:
        said.append(f"up to {first.trainings} and {second.trainings} trainings")
    same_epochs = first.epochs == second.epochs
    if not same_epochs:
        said.append(f"up to {first.epochs:g} and {second.epochs:g} epochs")
    ratio = max(first.seconds, second.seconds) / max(min(first.seconds, second.seconds), 1e-9)
    if ratio >= NOTABLE_RATIO:
        equal = f"as many epochs, up to {first.epochs:g}, but " if same_epochs else ""
        said.append(
            f"{equal}{first.seconds:.0f} and {second.seconds:.0f} seconds on average, "
            f"{ratio:.1f} times as long"
        )
    return f" Their budgets differ: in a fold {'; '.join(said)}." if said else ""


def _claim(row: Row) -> str:
    smaller, larger = row["first"], row["second"]
    sizes = -row["difference"], -row["high"], -row["low"]
    if row["difference"] > 0:
        smaller, larger = larger, smaller
        sizes = row["difference"], row["low"], row["high"]
    size = format_interval(*sizes)
    return f"{larger} is better than {smaller}: its Dice is higher by {size} ({_test(row)})."


def _test(row: Row) -> str:
    return (
        f"{row['num_images']} images; corrected t test over {row['num_trainings']} trainings, "
        f"{state_p(row['corrected_t_holm'])} after Holm"
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


def rank_models(models: pd.DataFrame, images: str) -> pd.DataFrame:
    """Order the models by their mean Dice, the best first.

    Args:
        models: the table of models.
        images: its set of images, such as `tumour`.
    """
    rows = models[models["images"] == images]
    return rows.sort_values("dice_mean", ascending=False, kind="stable")


def describe_leaders(models: pd.DataFrame, images: str) -> str:
    """Say that the second model's mean lies inside the first one's interval, if it does.

    Args:
        models: the table of models.
        images: its set of images, such as `tumour`.

    Returns:
        A sentence, empty where the mean lies outside or there is no second.
    """
    ranking = rank_models(models, images)
    if len(ranking) < 2:
        return ""
    first, second = (row for _, row in ranking.head(2).iterrows())
    if not first["dice_low"] <= second["dice_mean"] <= first["dice_high"]:
        return ""
    names = [
        f"{row['model']} ({CHOSEN})" if row["chosen_here"] else f"{row['model']}"
        for row in (first, second)
    ]
    return (
        f"By mean Dice, {names[0]} is rank 1 with {format_estimate(first, 'dice')} and {names[1]} "
        f"rank 2 with {second['dice_mean']:.3f}: rank 2 lies inside rank 1's interval."
    )
