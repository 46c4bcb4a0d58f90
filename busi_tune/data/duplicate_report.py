"""What is to know of near-duplicates: their tables, and where people noted them differently."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from busi_tune.data.busi import Sample
from busi_tune.data.duplicates import Pair, list_members
from busi_tune.data.parallel import map_threads
from busi_tune.data.pixels import read_mask
from busi_tune.run_directory import write_atomic

AGREEMENT = 0.7
"""Dice below which two masks contradict each other (Zijdenbos et al. 1994: good above 0.7)."""


@dataclass(frozen=True)
class Comparison:
    """A pair and how what people noted about its images agrees."""

    pair: Pair
    labels: tuple[str, str]
    mask_dice: float | None
    """Of identical scans, over what both show; None: they are neighbours or without lesion."""


def compare_notes(samples: Sequence[Sample], pairs: Sequence[Pair]) -> list[Comparison]:
    """Compare classes and masks of the images of each pair.

    Raises:
        OSError, ValueError: A mask cannot be read.
    """
    by_name = {sample.name: sample for sample in samples}

    def compare(pair: Pair) -> Comparison:
        first, second = by_name[pair.first], by_name[pair.second]
        dice = None
        if pair.level == "identical" and first.mask_paths and second.mask_paths:
            dice = compare_masks(read_mask(first.mask_paths), read_mask(second.mask_paths), pair)
        return Comparison(pair, (first.label, second.label), dice)

    return list(map_threads(compare, pairs))


def compare_masks(first: np.ndarray, second: np.ndarray, pair: Pair) -> float | None:
    """Dice of two masks laid over each other, over what both images show; None: both empty.

    Args:
        first: bool (H, W) of the pair's first image.
        second: bool (h, w) of its second.
        pair: How the first lies in the second.
    """
    linear, offset = np.array(pair.matrix)[:, :2], np.array(pair.matrix)[:, 2]
    inverse = np.linalg.inv(linear)[::-1, ::-1]  # rows and columns, as scipy counts them
    start = -inverse @ offset[::-1]
    moved, seen = (
        ndimage.affine_transform(array, inverse, start, second.shape, np.uint8, order=0) > 0
        for array in (first.astype(np.uint8), np.ones(first.shape, np.uint8))
    )
    both = second & seen
    total = int(moved.sum() + both.sum())
    return float(2 * (moved & both).sum() / total) if total else None


def describe_groups(groups: Mapping[str, str], pairs: Sequence[Pair]) -> list[str]:
    """Count images, groups and pairs, a line each for groups and pairs."""
    sizes = [len(names) for names in list_members(groups).values()]
    num_identical = sum(pair.level == "identical" for pair in pairs)
    twins = {name for p in pairs if p.level == "identical" for name in (p.first, p.second)}
    return [
        f"{len(groups)} images: {sum(sizes)} in {len(sizes)} groups, the largest of "
        f"{max(sizes, default=1)}; {len(twins)} have an identical scan",
        f"{len(pairs)} pairs: {num_identical} of identical scans, "
        f"{len(pairs) - num_identical} of neighbouring frames",
    ]


def describe_contradictions(comparisons: Sequence[Comparison]) -> list[str]:
    """Say which pairs differ in class or mask, a line each."""
    lines = []
    for comparison in comparisons:
        pair, dice = comparison.pair, comparison.mask_dice
        if comparison.labels[0] != comparison.labels[1]:
            lines.append(f"classes differ: {pair.first} - {pair.second} ({pair.level})")
        if dice is not None and dice < AGREEMENT:
            lines.append(f"masks differ: {pair.first} - {pair.second} (Dice {dice:.2f})")
    return sorted(lines)


def describe_ceiling(comparisons: Sequence[Comparison]) -> str:
    """Say how well two masks of one scan agree, which no model can be shown to exceed."""
    dice = [c.mask_dice for c in comparisons if c.mask_dice is not None]
    if not dice:
        return "no identical scans with lesions: the noise of the annotations is not known"
    return (
        f"masks of identical scans agree with a Dice of {np.mean(dice):.3f} on average, "
        f"{np.median(dice):.3f} in the median ({len(dice)} pairs with a lesion): the ceiling that "
        "annotation noise sets"
    )


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """Write the CSV that data.groups takes: a row for every image."""
    _write_csv(path, ("image", "group"), list(groups.items()))


def write_pairs(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write a row per pair, the most alike first."""
    header = (
        "image", "twin", "level", "score", "inliers", "overlap", "scale", "class", "twin_class",
        "mask_dice",
    )  # fmt: skip
    rows = [
        (
            pair.first, pair.second, pair.level, f"{pair.score:.4f}", pair.inliers,
            f"{pair.overlap:.3f}", f"{pair.scale:.3f}", *comparison.labels,
            "" if comparison.mask_dice is None else f"{comparison.mask_dice:.4f}",
        )
        for comparison in sorted(comparisons, key=lambda c: -c.pair.score)
        for pair in [comparison.pair]
    ]  # fmt: skip
    _write_csv(path, header, rows)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
