"""How each model does on parts of the images: by class, by size, by shape, and without lesion."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from busi_tune import run_directory
from busi_tune.results.marks import chosen_models, mark_model
from busi_tune.results.pages.kfold_tables import (
    SCORES,
    describe_grouping,
    describe_protocol,
    false_lesion_rows,
    summarise_false_lesions,
    summarise_scores,
)
from busi_tune.results.pages.tables import (
    Table,
    format_estimate,
    format_interval,
    write_csv,
    write_page,
)
from busi_tune.results.read import KfoldRun
from busi_tune.results.repeats import average_repeats
from busi_tune.statistics.intervals import difference_of_means

Floats = npt.NDArray[np.float64]
Place = dict[str, object]

MEASURES = SCORES | {"nsd": "NSD", "hd95": "HD95"}
PARTS = ("mean", "low", "high")
MIN_IMAGES = 8
"""Tumour images for which quartiles are formed."""


@dataclass(frozen=True)
class Trait:
    """A measure of lesions whose quartiles are compared."""

    column: str
    title: str
    definition: str
    unit: str
    scale: float
    limit: str
    """What the report said of its networks."""
    ends: tuple[str, str]
    """Names of the outer quartiles."""


TRAITS = (
    Trait(
        "size", "Size", "the share of the image's area that is lesion", " % of the image", 100.0,
        "larger tumours are segmented worse", ("smallest", "largest"),
    ),
    Trait(
        "irregularity", "Irregularity", "1 minus the lesion's area over its convex hull's", "", 1.0,
        "complex shapes are segmented worse", ("most regular", "most irregular"),
    ),
)  # fmt: skip


def subgroups_table(run: KfoldRun) -> pd.DataFrame:
    """Summarise every model on every subgroup; an image counts once, averaged over its repeats.

    Returns:
        A row per model and subgroup: model, kind (`images`, `class`, `size`, `irregularity`),
        name, the limits of quartiles, num_images, and for each score its mean with the 95 %
        bootstrap interval over groups; for normal images the share with a false lesion, with
        Wilson's interval. Size is the lesion's area over the image's, irregularity 1 - solidity.
    """
    images = _images(run)
    limits = {trait.column: find_quartiles(images, trait.column) for trait in TRAITS}
    scores = [score for score in MEASURES if score in images]
    rows = []
    for model in run.models:
        own = images[images["model"] == model]
        for place, part in _divide(own, limits):
            row = {"model": model, **place, "num_images": len(part)}
            if place["name"] == "normal" and place["kind"] == "images":
                rows.append(row | summarise_false_lesions(part))
            elif len(part):
                rows.append(row | summarise_scores(part, scores))
    columns = ["model", "kind", "name", "above", "up_to", "num_images"]
    columns += [f"{score}_{part}" for score in (*scores, "false_lesion") for part in PARTS]
    return pd.DataFrame(rows).reindex(columns=columns)


def _images(run: KfoldRun) -> pd.DataFrame:
    """Return a row per model and image with its traits."""
    area = (run.images["tp"] + run.images["fn"]) / (run.images["height"] * run.images["width"])
    images = run.images.assign(false_lesion=run.images["fp"] > 0, size=area)
    scores = [score for score in MEASURES if score in images]
    return average_repeats(images, [*scores, "false_lesion"])


def find_quartiles(images: pd.DataFrame, trait: str) -> Floats | None:
    """Return the three limits between quarters of the lesions, the same for every model.

    Args:
        images: a row per model and image.
        trait: column of the measure.

    Returns:
        None where too few lesions have one.
    """
    if trait not in images:
        return None
    lesions = images[images["has_lesion"]].drop_duplicates("image")
    values = lesions[trait].dropna().to_numpy(np.float64)
    if len(values) < MIN_IMAGES:
        return None
    limits: Floats = np.quantile(values, [0.25, 0.5, 0.75])
    return limits


def _divide(
    images: pd.DataFrame, limits: dict[str, Floats | None]
) -> list[tuple[Place, pd.DataFrame]]:
    """Part a model's images: kind, name and limits of each subgroup, and its images."""
    lesions, normal = images[images["has_lesion"]], images[~images["has_lesion"]]
    parts: list[tuple[Place, pd.DataFrame]] = [
        ({"kind": "images", "name": "tumour"}, lesions),
        ({"kind": "images", "name": "all"}, images),
        ({"kind": "images", "name": "normal"}, normal),
    ]
    for label, part in images.groupby("label"):
        parts.append(({"kind": "class", "name": label}, part))
    for trait in TRAITS:
        between = limits[trait.column]
        if between is None:
            continue
        known = lesions.dropna(subset=[trait.column])
        quartile = np.searchsorted(between, known[trait.column].to_numpy(np.float64))
        ends = [np.nan, *between, np.nan]
        for number in range(4):
            place: Place = {"kind": trait.column, "name": f"quartile {number + 1}"}
            place |= {"above": ends[number], "up_to": ends[number + 1]}
            parts.append((place, known[quartile == number]))
    return parts


def compare_quartiles(run: KfoldRun, trait: Trait) -> list[str]:
    """Say of every model whether its outer quartiles differ in Dice, as the report's did."""
    images = _images(run)
    limits = find_quartiles(images, trait.column)
    if limits is None:
        return []
    sentences = []
    for model in run.models:
        own = images[images["has_lesion"] & (images["model"] == model)]
        own = own.dropna(subset=[trait.column])
        low, high = own[trait.column] <= limits[0], own[trait.column] > limits[2]
        if low.any() and high.any():
            outer = own[low | high]
            difference = difference_of_means(outer["dice"], high[low | high], outer["group"])
            name = mark_model(model, chosen_models(run))
            sentences.append(f"{name}: {describe_difference(difference, trait)}")
    return sentences


def describe_difference(difference: tuple[float, float, float], trait: Trait) -> str:
    """Say what the difference between the outer quartiles means for the report's limit.

    Args:
        difference: of mean Dice, the last quartile minus the first, with its interval.
        trait: what the quartiles are of.
    """
    mean, low, high = difference
    first, last = trait.ends
    if low <= 0 <= high:
        return (
            f"the interval of the difference in Dice between the {last} quarter and the {first}, "
            f"{format_interval(mean, low, high)}, includes zero."
        )
    if mean < 0:
        size = format_interval(-mean, -high, -low)
        return (
            f"Dice is lower in the {last} quarter than in the {first}, by {size}. "
            f"This run shows the report's limit too: {trait.limit}."
        )
    return (
        f"Dice is higher in the {last} quarter than in the {first}, by "
        f"{format_interval(mean, low, high)}. This run does not show the report's limit that "
        f"{trait.limit}, but the reverse."
    )


def write_subgroups(run: KfoldRun) -> None:
    """Write the subgroups as CSV and as a page."""
    table = subgroups_table(run)
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "subgroups.csv", table)
    sections: list[str | Table] = [
        _shown(run, table, "images", "Tumour images and all images"),
        _shown(run, table, "class", "Each class"),
    ]
    for trait in TRAITS:
        if (table["kind"] == trait.column).any():
            title = f"Quarters of the lesions by {trait.column}, {trait.definition}"
            sections += [f"## {trait.title}", _shown(run, table, trait.column, title)]
            sentences = compare_quartiles(run, trait)
            sections += ["\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []
    normal = table[(table["name"] == "normal") & (table["kind"] == "images")]
    if normal["num_images"].any():
        sections += ["## Normal images", _false_lesions(run, normal)]
    write_page(folder, "subgroups", "Subgroups", sections)


def _shown(run: KfoldRun, table: pd.DataFrame, kind: str, title: str) -> Table:
    labels = {name: label for name, label in MEASURES.items() if f"{name}_mean" in table}
    part = table[(table["kind"] == kind) & ((table["name"] != "normal") | (kind == "class"))]
    order = {name: position for position, name in enumerate(dict.fromkeys(part["name"]))}
    part = part.sort_values("name", key=lambda names: names.map(order), kind="stable")
    chosen = chosen_models(run)
    rows = [
        {"Images": _name(row), "Model": mark_model(row["model"], chosen), "n": row["num_images"]}
        | {label: format_estimate(row, name) for name, label in labels.items()}
        for _, row in part.iterrows()
    ]
    caption = (
        f"{title}. Means over n images, each averaged over its repeats, with 95 % bootstrap "
        f"intervals over groups, not adjusted for their number. {describe_protocol(run)}"
        f"{_surface_rule(labels)}"
    )
    return Table(f"{caption} {describe_grouping(run)}", pd.DataFrame(rows))


def _surface_rule(labels: dict[str, str]) -> str:
    if "hd95" not in labels:
        return ""
    return " NSD at 2 pixels. HD95 in pixels: 0 for two empty masks, the image's diagonal for one."


def _name(row: pd.Series) -> str:
    """Name a subgroup, a quartile by its limits."""
    traits = {trait.column: trait for trait in TRAITS}
    if row["kind"] not in traits:
        return str(row["name"])
    trait = traits[row["kind"]]
    above, up_to = (row[end] * trait.scale for end in ("above", "up_to"))
    if np.isnan(above):
        return f"up to {up_to:.3g}{trait.unit}"
    if np.isnan(up_to):
        return f"above {above:.3g}{trait.unit}"
    return f"above {above:.3g} to {up_to:.3g}{trait.unit}"


def _false_lesions(run: KfoldRun, normal: pd.DataFrame) -> Table:
    caption = (
        "Share of the images without lesion in which a pixel was predicted as lesion. An image "
        "counts once, averaged over its repeats; Wilson's 95 % interval of n images, which takes "
        f"them as independent. {describe_protocol(run)}"
    )
    rows = (row for _, row in normal.iterrows())
    return Table(caption, false_lesion_rows(rows, chosen_models(run)))
