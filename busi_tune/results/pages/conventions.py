"""The same predictions scored under other rules: how much of a gap to a paper is convention."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.counts import COUNTS, compute_metrics
from busi_tune.results.marks import chosen_models, explain_mark, mark_model
from busi_tune.results.pages.kfold_tables import EMPTY_RULE, describe_protocol
from busi_tune.results.pages.tables import MISSING, Table, format_score, write_csv, write_page
from busi_tune.results.read import KfoldRun

Floats = npt.NDArray[np.float64]

SKIPPED = float("nan")
WHOLE = 0
"""As a batch: all test images of a model."""


@dataclass(frozen=True)
class Rule:
    """How predictions become one Dice; the defaults are this project's, on tumour images."""

    name: str
    images: str = "tumour"
    """`tumour`, or `all` with the normal ones."""
    counts: str = ""
    """Ending of the columns: `_first` mask alone, `_resized` to training size, `_tuned`."""
    both_empty: float = 1.0
    """Score of an empty prediction for an empty mask; `SKIPPED` leaves it out."""
    one_sided: float = 0.0
    """Score where one of the two is empty; `SKIPPED` leaves it out."""
    batch: int = 1
    """Images whose pixels are pooled before they are scored; `WHOLE` pools all."""


@dataclass(frozen=True)
class Source:
    """Published figures, and the rule that their protocol comes to."""

    figures: str
    stated: str
    taken: str
    rule: Rule


OURS = Rule("ours")
_CHANGES = (
    OURS,
    Rule("first mask alone, not the union", counts="_first"),
    Rule("training size, not original pixels", counts="_resized"),
    Rule("operating point chosen on the validation part", counts="_tuned"),
    Rule("a one-sided empty mask is skipped", one_sided=SKIPPED),
    Rule("pooled per batch of 32, then averaged", batch=32),
    Rule("pooled per batch of 64, then averaged", batch=64),
    Rule("pooled over all images", batch=WHOLE),
)
_EMPTY = (
    Rule("empty against empty scores 0", both_empty=0.0),
    Rule("empty against empty is skipped", both_empty=SKIPPED),
)
CHANGES = {
    "tumour": _CHANGES,
    "all": tuple(replace(rule, images="all") for rule in (OURS, *_EMPTY, *_CHANGES[1:])),
}
TITLES = {"tumour": "Tumour images", "all": "All images, normal ones included"}

_RESIZED = Rule("", counts="_resized")
SOURCES = (
    Source(
        "U-Net 74.9, UNet++ 75.7, Attention U-Net 78.1, RWKV-UNet 81.9",
        "8:1:1, three random splits; normal images, duplicates and averaging are not stated",
        "tumour images, training size, mean per image",
        replace(_RESIZED, name="RWKV-UNet"),
    ),
    Source(
        "U-Net 77.0, Attention U-Net 76.9, U-Net++ 78.1, CMUNeXt 79.9",
        "647 tumour images, random 70/30, best epoch chosen on the set that is reported, pixels "
        "pooled over a batch",
        "tumour images, training size, batches of 32",
        replace(_RESIZED, name="Medical-Image-Segmentation-Benchmarks", batch=32),
    ),
    Source(
        "U-Net with EfficientNet-B0 71.1, DenseNet121 69.5, ResNet18 67.4",
        "647 images, one fixed split, mean per image",
        "tumour images, training size, mean per image",
        replace(_RESIZED, name="MedSegBench"),
    ),
    Source(
        "U-Net 71.0, Attention U-Net 74.0, UNet++ 73.1, TransUNet 72.3",
        "780 images with normal ones, empty against empty scores 1, mean per image, 224 pixels",
        "all images, training size, empty against empty 1, mean per image",
        replace(_RESIZED, name="Awesome_Segmentation_in_Medical", images="all"),
    ),
    Source(
        "U-Net++ benign 79.9, malignant 73.1",
        "450 images without duplicates, 128 pixels, cross-validation",
        "tumour images, training size, mean per image",
        replace(_RESIZED, name="de-duplicated BUSI of 450 images"),
    ),
)
PUBLISHED = tuple(source.rule for source in SOURCES)


def write_conventions(run: KfoldRun) -> None:
    """Write the table of conventions as CSV and as a page."""
    table = conventions_table(run)
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "conventions.csv", table)
    sections: list[str | Table] = [
        "The predictions are the same in every row; only the rule by which they are scored "
        "varies. Each cell is the Dice and, in brackets, its difference to ours. Batches are "
        "formed within the test part of each training, in the order of evaluation, class by "
        "class; a last, smaller batch weighs as much as the others, and so does each training."
    ]
    for images in CHANGES:
        part = table[(table["kind"] == "one change") & (table["images"] == images)]
        if len(part):
            caption = (
                f"{TITLES[images]}, n = {part['num_images'].max()}. One change at a time; the "
                f"difference is to the first row. {describe_protocol(run)}"
            )
            sections += [f"## {TITLES[images]}", Table(caption, _shown(run, part, "Rule"))]
    published = table[table["kind"] == "published"]
    if len(published):
        sections += _published_sections(run, published)
    missing = _left_out(table)
    if missing:
        sections.append(f"Left out, since the run has no counts for them: {'; '.join(missing)}.")
    write_page(folder, "conventions", "Conventions of scoring", sections)


def conventions_table(run: KfoldRun) -> pd.DataFrame:
    """Score every model under every rule that the run has counts for.

    Returns:
        Columns model, kind (`one change` or `published`), rule, images, num_images, dice,
        reference and difference: to ours on the same images, for published rules to ours on
        tumour images.
    """
    rows = []
    for kind, rules in (
        ("one change", [rule for changes in CHANGES.values() for rule in changes]),
        ("published", list(PUBLISHED)),
    ):
        for rule in rules:
            reference = "tumour" if kind == "published" else rule.images
            for model in run.models:
                images = run.images[run.images["model"] == model]
                dice = score(images, rule)
                if np.isnan(dice):
                    continue
                difference = dice - score(images, replace(OURS, images=reference))
                rows.append(
                    {"model": model, "kind": kind, "rule": rule.name, "images": rule.images}
                    | {"num_images": _choose(images, rule)["image"].nunique(), "dice": dice}
                    | {"reference": reference, "difference": difference}
                )
    columns = ["model", "kind", "rule", "images", "num_images", "dice", "reference", "difference"]
    return pd.DataFrame(rows, columns=columns)


def score(images: pd.DataFrame, rule: Rule) -> float:
    """Score the test rows of one model by a rule; not a number without the counts for it."""
    chosen = _choose(images, rule)
    columns = [f"{name}{rule.counts}" for name in COUNTS]
    if not len(chosen) or not set(columns) <= set(chosen) or chosen[columns].isna().any(axis=None):
        return float("nan")
    counts = chosen[columns].to_numpy(dtype=np.int64)
    if rule.batch == WHOLE:
        return _average(_dice(counts.sum(axis=0, keepdims=True), rule))
    if rule.batch == 1:
        # An image counts once, whatever the number of repeats.
        by_image = chosen.assign(score=_dice(counts, rule)).groupby("image")["score"].mean()
        return _average(by_image.to_numpy(np.float64))
    means = []
    for _, part in chosen.groupby(["repeat", "fold"]):
        values = part[columns].to_numpy(dtype=np.int64)
        pooled = np.add.reduceat(values, np.arange(0, len(values), rule.batch), axis=0)
        means.append(_average(_dice(pooled, rule)))
    return _average(np.array(means))


def _choose(images: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Choose the rule's images; none where `all` would be no others than the tumour images."""
    tumour = images[images["has_lesion"]]
    if rule.images == "tumour":
        return tumour
    return images if len(images) > len(tumour) else images[:0]


def _dice(counts: npt.NDArray[np.int64], rule: Rule) -> Floats:
    dice = compute_metrics(counts)["dice"]
    predicted, lesion = counts[:, 0] + counts[:, 1] > 0, counts[:, 0] + counts[:, 2] > 0
    dice[~predicted & ~lesion] = rule.both_empty
    dice[predicted != lesion] = rule.one_sided
    return dice


def _average(values: Floats) -> float:
    """Average what was not skipped."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def _published_sections(run: KfoldRun, published: pd.DataFrame) -> list[str | Table]:
    stated = pd.DataFrame(
        {"Source": source.rule.name, "Stated": source.stated, "Taken": source.taken,
         "Published Dice": source.figures}
        for source in SOURCES
        if source.rule.name in set(published["rule"])
    )  # fmt: skip
    return [
        "## Published rules",
        Table(
            "Predictions of this run, scored by the rules of published figures as far as they are "
            "stated; the difference is to ours on tumour images. The union of masks and an empty "
            "rule as ours are taken where nothing is stated. Not repeated are the sources' splits, "
            "duplicates, image sizes and choices of the best epoch. "
            f"{_published_sizes(published)} {EMPTY_RULE}{explain_mark(run)}",
            _shown(run, published, "Rule of"),
        ),
        Table(
            "What the sources state, what was taken, and their figures in percent, on their own "
            "images; numbers of images and rules for empty masks are given where they are stated.",
            stated,
        ),
    ]


def _published_sizes(published: pd.DataFrame) -> str:
    sizes = published.groupby("images")["num_images"].max()
    return " ".join(
        f"{TITLES[images]}: n = {sizes[images]}." for images in TITLES if images in sizes
    )


def _shown(run: KfoldRun, table: pd.DataFrame, heading: str) -> pd.DataFrame:
    """A row per rule and a column per model."""
    cells = {
        (row["rule"], row["model"]): f"{format_score(row['dice'])} ({row['difference']:+.3f})"
        for _, row in table.iterrows()
    }
    names = {model: mark_model(model, chosen_models(run)) for model in run.models}
    return pd.DataFrame(
        {heading: rule} | {name: cells.get((rule, m), MISSING) for m, name in names.items()}
        for rule in dict.fromkeys(table["rule"])
    )


def _left_out(table: pd.DataFrame) -> Sequence[str]:
    found = set(table["rule"])
    names = [rule.name for rules in (*CHANGES.values(), PUBLISHED) for rule in rules]
    sets = set(table["images"])
    impossible = {rule.name for rule in _EMPTY} if "all" not in sets else set()
    return [name for name in dict.fromkeys(names) if name not in found | impossible]
