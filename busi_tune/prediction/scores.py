"""Predictions against masks: a row per image, and the means with their intervals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from busi_tune.data.cache import ImageSet
from busi_tune.evaluation.counts import COUNTS, compute_metrics, count_pixels
from busi_tune.evaluation.operating_point import Mask
from busi_tune.evaluation.surface import DEFINITION, surface_scores
from busi_tune.results.pages.kfold_tables import (
    BOOTSTRAP,
    EMPTY_RULE,
    SCORES,
    STATISTICS,
    SURFACE_SCORES,
    summarise_false_lesions,
    summarise_scores,
)
from busi_tune.results.pages.tables import (
    Table,
    format_estimate,
    format_summary,
    write_csv,
    write_page,
)

ALL_SCORES = SCORES | SURFACE_SCORES
TITLES = {"tumour": "Tumour images", "all": "All images", "normal": "Normal images"}


def score_image(images: ImageSet, index: int, lesion: Mask) -> dict[str, object]:
    """Return an image's row of scores.csv: who it is, counts and scores in original pixels."""
    truth = images.original_mask(index)
    pair = (torch.from_numpy(mask)[None, None] for mask in (lesion, truth))
    counts = count_pixels(*pair).numpy()
    metrics = compute_metrics(counts)
    return {
        "image": images.names[index],
        "label": images.labels[index],
        "group": images.groups[index],
        **dict(zip(COUNTS, counts[0].tolist(), strict=True)),
        **{name: float(metrics[name][0]) for name in SCORES},
        **surface_scores(lesion, truth),
    }


def write_scores(out: Path, rows: Sequence[dict[str, object]], context: str) -> pd.DataFrame:
    """Write scores.csv, a row per image, and tables/external as CSV, Markdown and LaTeX.

    Args:
        out: the folder of the predictions.
        rows: of `score_image`.
        context: sentences for captions: which networks, how their masks were made.

    Returns:
        The table of means.
    """
    images = pd.DataFrame(rows)
    write_csv(out / "scores.csv", images)
    table = external_table(images)
    folder = out / "tables"
    write_csv(folder / "external.csv", table)
    shown = [_show(row, name) for name, row in table.set_index("images").iterrows()]
    caption = (
        f"{context} {BOOTSTRAP} Groups: {images['group'].nunique()}, of near-duplicates or as "
        f"metadata.csv has them. Counted in original pixels. {EMPTY_RULE} {DEFINITION}"
    )
    sections: list[str | Table] = [Table(caption, pd.DataFrame(shown))]
    normal = table[table["images"] == "normal"].iloc[0]
    if normal["num_images"]:
        sections.append(
            f"Normal images with a false lesion: {format_estimate(normal, 'false_lesion')} of "
            f"{normal['num_images']:.0f}, with Wilson's 95 % interval, which takes images as "
            "independent."
        )
    write_page(folder, "external", "External validation", sections)
    return table


def external_table(images: pd.DataFrame) -> pd.DataFrame:
    """Summarise scores: a row each for tumour images, all of them and normal ones.

    Args:
        images: a row per image, as of `score_image`.
    """
    lesion = images["tp"] + images["fn"] > 0
    names = list(ALL_SCORES)
    normal = images[~lesion].assign(false_lesion=(images.loc[~lesion, "fp"] > 0).astype(float))
    rows = [
        {"images": "tumour", **summarise_scores(images[lesion], names)},
        {"images": "all", **summarise_scores(images, names)},
        {"images": "normal", **summarise_false_lesions(normal)},
    ]
    return pd.DataFrame(rows)


def _show(row: "pd.Series[float]", name: object) -> dict[str, object]:
    shown: dict[str, object] = {"Images": TITLES[str(name)], "n": int(row["num_images"])}
    for score, label in ALL_SCORES.items():
        decimals = 1 if score == "hd95" else 3
        values = [row[f"{score}_{part}"] for part in STATISTICS]
        shown[label] = format_summary(*values, decimals=decimals) if np.isfinite(values[0]) else "-"
    return shown
