"""The threshold and the smallest lesion kept, chosen on validation images.

Both are applied to the saved 8-bit maps in original pixels. Components touch at sides or corners
(8-neighbours); those with fewer pixels than the smallest one kept become background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from busi_tune.evaluation.counts import compute_metrics
from busi_tune.evaluation.levels import threshold_level

Levels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
COMPONENTS_PX = (0, 50, 100, 200, 500, 1000)
"""Smallest component kept, pixels of the original image; 0 keeps every one."""


@dataclass(frozen=True)
class OperatingPoint:
    """How a map becomes a mask."""

    threshold: float
    """Probability from which a pixel is lesion."""
    component_px: int
    """Components of fewer original pixels are removed."""


def counts_at(levels: Levels, truth: Mask, point: OperatingPoint) -> Counts:
    """Count the pixels of a map at one operating point; tp, fp, fn, tn."""
    return _count(levels, truth, [point.threshold], [point.component_px]).reshape(4)


def counts_everywhere(levels: Levels, truth: Mask) -> Counts:
    """Count the pixels of a map at every operating point.

    Args:
        levels: map of grey levels (H, W).
        truth: mask (H, W).

    Returns:
        tp, fp, fn, tn for each of `THRESHOLDS` and `COMPONENTS_PX`, (T, C, 4).
    """
    return _count(levels, truth, THRESHOLDS, COMPONENTS_PX)


def counts_by_threshold(levels: Levels, truth: Mask) -> Counts:
    """Count the pixels of a map at every threshold, all components kept; (T, 4).

    The levels inside and outside the truth are counted once, which serves all thresholds.
    """
    inside = np.bincount(levels[truth], minlength=256)
    outside = np.bincount(levels.ravel(), minlength=256) - inside
    starts = [threshold_level(threshold) for threshold in THRESHOLDS]
    tp, fp = (np.cumsum(found[::-1])[::-1][starts] for found in (inside, outside))
    return np.stack([tp, fp, inside.sum() - tp, outside.sum() - fp], axis=1).astype(np.int64)


def choose_operating_point(counts: Counts) -> OperatingPoint:
    """Choose the point with the highest mean Dice over images; of equals, that nearest to 0.5, 0.

    Args:
        counts: of each validation image `counts_everywhere`, (N, T, C, 4), N at least 1.

    Returns:
        The chosen point.
    """
    grid = counts.shape[:3]
    dice = compute_metrics(counts.reshape(-1, 4))["dice"].reshape(grid).mean(axis=0)
    # Means of equal values may differ in the last bit.
    best = np.argwhere(dice >= dice.max() - 1e-12)
    points = [OperatingPoint(THRESHOLDS[row], COMPONENTS_PX[column]) for row, column in best]
    return min(points, key=lambda p: (round(abs(p.threshold - 0.5), 6), p.component_px))


def pick(counts: Counts, point: OperatingPoint) -> Counts:
    """Pick the counts at one point out of those everywhere, (N, T, C, 4) to (N, 4)."""
    row, column = THRESHOLDS.index(point.threshold), COMPONENTS_PX.index(point.component_px)
    return counts[:, row, column]


def _count(
    levels: Levels, truth: Mask, thresholds: Sequence[float], sizes: Sequence[int]
) -> Counts:
    """Count the pixels of a map at thresholds and smallest components; (T, C, 4)."""
    smallest = np.array(sizes)[:, None]
    found = []
    for threshold in thresholds:
        lesion = (levels >= threshold_level(threshold)).view(np.uint8)
        left, top, width, height = cv2.boundingRect(lesion)
        inside = (slice(top, top + height), slice(left, left + width))
        pixels = np.zeros((0, 2), dtype=np.int64)  # of each component outside and inside the truth
        if width:
            # One count of components and truth together is faster than OpenCV's own statistics.
            number, components = cv2.connectedComponents(lesion[inside])
            codes = 2 * components + truth[inside]
            pixels = np.bincount(codes.ravel(), minlength=2 * number).reshape(number, 2)[1:]
        found.append((pixels.sum(axis=1) >= smallest) @ pixels)
    fp, tp = np.moveaxis(np.array(found), -1, 0)
    positives = np.count_nonzero(truth)
    return np.stack([tp, fp, positives - tp, truth.size - positives - fp], axis=-1)
