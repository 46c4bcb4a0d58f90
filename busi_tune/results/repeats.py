"""One row per image and model, whatever the number of repeats."""

from collections.abc import Sequence

import pandas as pd


def average_repeats(images: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Average scores over the repeats, so that an image counts once for a model.

    Args:
        images: test rows of a run.
        scores: columns to average; the others are the first repeat's.

    Returns:
        A row per model and image, in the order in which they come.
    """
    others = [name for name in images if name not in (*scores, "model", "image")]
    rules = dict.fromkeys(others, "first") | dict.fromkeys(scores, "mean")
    return images.groupby(["model", "image"], sort=False, as_index=False).agg(rules)
