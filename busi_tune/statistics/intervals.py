"""Means and shares over images with their spread and their uncertainty."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Summary:
    """A mean over images; not a number where there is nothing to compute it from."""

    num_images: int
    mean: float
    sd: float
    """Sample standard deviation over images."""
    low: float
    high: float
    """Ends of the 95 % percentile bootstrap interval of the mean."""


def summarise(
    values: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Summary]:
    """Summarise measurements that were taken on the same images.

    Args:
        values: (N, M), a row per image and a column per measurement.
        groups: (N,) names; rows of one group are resampled together. None: each row by itself.
        num_resamples: bootstrap samples behind the interval.
        seed: seed of the resampling.

    Returns:
        A summary per column.
    """
    table = np.asarray(values, dtype=np.float64)
    assert table.ndim == 2
    if not len(table):
        return [Summary(0, *[np.nan] * 4) for _ in range(table.shape[1])]
    means = bootstrap_means(table, groups, num_resamples=num_resamples, seed=seed)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    sd = table.std(axis=0, ddof=1) if len(table) > 1 else np.full(table.shape[1], np.nan)
    columns = zip(table.mean(axis=0), sd, low, high, strict=True)
    return [Summary(len(table), *map(float, column)) for column in columns]


def bootstrap_means(
    values: Floats, groups: npt.ArrayLike | None = None, *, num_resamples: int, seed: int
) -> Floats:
    """Draw whole groups with replacement, as many as there are, and average over their rows.

    A mean is the ratio of two sums (Cochran 1977, cluster sampling): groups differ in size.

    Args:
        values: (N, M), N at least 1.
        groups: (N,) names, or None.
        num_resamples: samples to draw.
        seed: seed of the draw.

    Returns:
        Means (num_resamples, M).
    """
    names = np.arange(len(values)) if groups is None else np.asarray(groups)
    _, members = np.unique(names, return_inverse=True)
    sizes = np.bincount(members)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, members, values)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(num_resamples, len(sizes)))
    drawn += np.arange(num_resamples)[:, None] * len(sizes)
    weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    means: Floats = (weights @ sums) / (weights @ sizes)[:, None]
    return means


def wilson(successes: float, num_images: int, level: float = LEVEL) -> tuple[float, float]:
    """Compute Wilson's score interval of a share (Wilson 1927), which never leaves [0, 1].

    Images are taken as independent. Successes may be fractional, as where an image's outcome is its
    mean over several trainings; the images still count once.

    Args:
        successes: from 0 to `num_images`.
        num_images: without any, the ends are not a number.
        level: of the two-sided interval.
    """
    if not num_images:
        return math.nan, math.nan
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = successes / num_images
    spread = math.sqrt(square * (share * (1 - share) + square / (4 * num_images)) / num_images)
    center, scale = share + square / (2 * num_images), 1 + square / num_images
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
