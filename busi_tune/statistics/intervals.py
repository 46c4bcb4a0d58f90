"""Means and shares over images with their spread and their uncertainty."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

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
    return _summaries(table, means)


def summarise_trainings(
    values: npt.ArrayLike,
    trainings: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Summary]:
    """Summarise models that were trained several times and tested on the same images.

    The interval covers both images and trainings: whole groups are drawn with replacement, the same
    for all models, and so are each model's trainings, by themselves. Few trainings make it
    somewhat too narrow.

    Args:
        values: (N, T), a row per image and a column per training.
        trainings: (T,), the model of each column.
        groups: (N,) names.
        num_resamples: bootstrap samples behind the intervals.
        seed: seed of the resampling.

    Returns:
        For each model its mean over images and trainings, and for each pair `first - second`, in
        the order of the columns, the mean difference; `sd` is that over images.
    """
    table, names = np.asarray(values, dtype=np.float64), np.asarray(trainings)
    means = bootstrap_means(table, groups, num_resamples=num_resamples, seed=seed)
    generator = np.random.default_rng([seed, 1])
    models = list(dict.fromkeys(names.tolist()))
    drawn, by_image = {}, {}
    for model in models:
        columns = np.flatnonzero(names == model)
        picks = generator.choice(columns, size=(num_resamples, len(columns)))
        drawn[model] = np.take_along_axis(means, picks, axis=1).mean(axis=1)
        by_image[model] = table[:, columns].mean(axis=1)
    for position, first in enumerate(models):
        for second in models[position + 1 :]:
            drawn[f"{first} - {second}"] = drawn[first] - drawn[second]
            by_image[f"{first} - {second}"] = by_image[first] - by_image[second]
    values, samples = (np.column_stack(list(each.values())) for each in (by_image, drawn))
    return dict(zip(drawn, _summaries(values, samples), strict=True))


def _summaries(table: Floats, means: Floats) -> list[Summary]:
    """Summarise the columns of (N, M) values by their (B, M) resampled means."""
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
    sums = _resample_sums(
        np.column_stack([values, np.ones(len(values))]), names, num_resamples, seed
    )
    means: Floats = sums[:, :-1] / sums[:, -1:]
    return means


def difference_of_means(
    values: npt.ArrayLike,
    is_first: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Compare the means of two sets of images, of which a group may have some in either.

    Args:
        values: (N,), of both sets.
        is_first: (N,), whether the image is of the first set; both need some.
        groups: (N,) names.
        num_resamples: bootstrap samples behind the interval.
        seed: seed of the resampling.

    Returns:
        The mean of the first minus that of the second and its 95 % interval over whole groups;
        resamples that lack one of the sets are left out.
    """
    scores, first = np.asarray(values, dtype=np.float64), np.asarray(is_first, dtype=np.float64)
    parts = np.column_stack([scores * first, scores * (1 - first), first, 1 - first])
    sums = _resample_sums(parts, np.asarray(groups), num_resamples, seed)
    sums = sums[(sums[:, 2:] > 0).all(axis=1)]
    differences = sums[:, 0] / sums[:, 2] - sums[:, 1] / sums[:, 3]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    seen = parts.sum(axis=0)
    return float(seen[0] / seen[2] - seen[1] / seen[3]), float(low), float(high)


def _resample_sums(
    values: Floats, names: npt.NDArray[Any], num_resamples: int, seed: int
) -> Floats:
    """Draw whole groups with replacement, as many as there are, and sum their rows up.

    Args:
        values: (N, M).
        names: (N,), the group of each row.
        num_resamples: samples to draw.
        seed: seed of the draw.

    Returns:
        Sums (num_resamples, M).
    """
    _, members = np.unique(names, return_inverse=True)
    num_groups = int(members.max()) + 1
    by_group = np.zeros((num_groups, values.shape[1]))
    np.add.at(by_group, members, values)
    drawn = np.random.default_rng(seed).integers(num_groups, size=(num_resamples, num_groups))
    drawn += np.arange(num_resamples)[:, None] * num_groups
    weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    sums: Floats = weights @ by_group
    return sums


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
