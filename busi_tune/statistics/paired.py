"""One model against another on the same images and the same trainings.

Differences are first minus second throughout. Images of one group are not independent, and neither
are folds, which share training images: each test here allows for one of the two.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from busi_tune.statistics.intervals import LEVEL

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Level of the tests, after Holm's correction."""


@dataclass(frozen=True)
class CorrectedT:
    """The corrected resampled t test; not a number where there are fewer than two trainings."""

    difference: float
    """Mean over trainings."""
    low: float
    high: float
    statistic: float
    p: float
    """Two-sided."""
    standard_deviation: float
    """Of the difference, over trainings."""


def signed_rank_p(differences: npt.ArrayLike, groups: npt.ArrayLike) -> float:
    """Compute the two-sided p of Wilcoxon's signed-rank test on the mean difference of each group.

    Zero differences are left out, as in Wilcoxon 1945; where all are zero, p is 1.

    Args:
        differences: (N,) of the images.
        groups: (N,) names.
    """
    from scipy.stats import wilcoxon

    differing = _differing_means(differences, groups)
    if differing is None:
        return math.nan
    return float(wilcoxon(differing).pvalue) if len(differing) else 1.0


def rank_biserial(differences: npt.ArrayLike, groups: npt.ArrayLike) -> float:
    """Compute the matched-pairs rank-biserial correlation (Kerby 2014), the effect size.

    The ranks of the groups that favour the first minus those that favour the second, as a share of
    all: 1 where the first is larger in every group, 0 where neither is, zeros left out.

    Args:
        differences: (N,) of the images.
        groups: (N,) names.
    """
    from scipy.stats import rankdata

    differing = _differing_means(differences, groups)
    if differing is None:
        return math.nan
    ranks = rankdata(np.abs(differing))
    return float(np.sign(differing) @ ranks / ranks.sum()) if len(ranks) else 0.0


def corrected_t(differences: npt.ArrayLike, test_over_train: float) -> CorrectedT:
    """Test the mean difference over the trainings of folds and repeats (Nadeau and Bengio 2003).

    Trainings share images, so the variance of their mean is not s^2 / n but
    s^2 (1 / n + test / train), with n - 1 degrees of freedom, n = k folds x r repeats.

    Args:
        differences: (n,) of the mean score of each training's test images.
        test_over_train: images of a test part over those of its training part.
    """
    from scipy.stats import t

    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return CorrectedT(mean, *[math.nan] * 5)
    sd = float(values.std(ddof=1))
    error = standard_error(sd, len(values), test_over_train)
    # Without any spread 0 stays 0 and every other difference is beyond doubt.
    statistic = mean / max(error, sys.float_info.min)
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    p = 2 * float(t.sf(abs(statistic), len(values) - 1))
    return CorrectedT(mean, mean - half, mean + half, statistic, p, sd)


def standard_error(sd: float, num_trainings: int, test_over_train: float) -> float:
    """Return the corrected standard error of a mean over trainings."""
    return sd * math.sqrt(1 / num_trainings + test_over_train)


def superiority(differences: npt.ArrayLike, num_folds: int) -> tuple[float, float, float]:
    """Estimate P(A > B), the share of trainings in which the first is larger (Bouthillier 2021).

    Ties count half. The 95 % interval is Clopper and Pearson's, from beta quantiles. The percentile
    bootstrap would end at 1 whenever one model leads in all of a few pairs, and Wilson's interval
    covers less than it says near the ends; this one never does for independent pairs. Repeats test
    the same images again, so the pairs count as many as there are folds.

    Args:
        differences: (n,) of the two models' trainings on the same fold and repeat.
        num_folds: of a repeat, at most n.

    Returns:
        The share and the ends of its interval.
    """
    from scipy.stats import beta

    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        return math.nan, math.nan, math.nan
    share = float(((values > 0) + (values == 0) / 2).mean())
    wins, losses = share * num_folds, (1 - share) * num_folds
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, wins, losses + 1)) if wins else 0.0
    high = float(beta.ppf(1 - tail, wins + 1, losses)) if losses else 1.0
    return share, low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number (Holm 1979): monotone, at most 1, in the order given.

    Values that are not a number stay so and do not count.
    """
    order = sorted((p, position) for position, p in enumerate(p_values) if not math.isnan(p))
    adjusted, reached = [math.nan] * len(p_values), 0.0
    for step, (p, position) in enumerate(order):
        reached = max(reached, min(1.0, (len(order) - step) * p))
        adjusted[position] = reached
    return adjusted


def holm_levels(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """Return the level that Holm's procedure holds each p value against.

    Of m values the i-th smallest meets alpha / (m - i + 1) as long as all before it were rejected;
    with the first that is not the procedure ends, and the rest would have had to pass there too.
    """
    order = sorted((p, position) for position, p in enumerate(p_values) if not math.isnan(p))
    levels, level, ended = [math.nan] * len(p_values), math.nan, False
    for step, (p, position) in enumerate(order):
        if not ended:
            level = alpha / (len(order) - step)
            ended = p >= level
        levels[position] = level
    return levels


def is_superior(low: float, high: float, adjusted_p: float, difference: float) -> bool:
    """Apply the rule of claims: both views of the uncertainty must agree that there is one.

    Args:
        low, high: ends of the bootstrap interval of the paired difference over images.
        adjusted_p: of the corrected t test over trainings, adjusted by Holm.
        difference: mean over trainings, to the same side as the interval.
    """
    excluded = low > 0 if difference > 0 else high < 0
    return adjusted_p < ALPHA and excluded


def _differing_means(differences: npt.ArrayLike, groups: npt.ArrayLike) -> Floats | None:
    """Average within groups and leave zeros out; None where there is no image."""
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        return None
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    means = np.bincount(members, values) / np.bincount(members)
    # Differences that are equal on paper are ties, whatever their last bits.
    rounded: Floats = np.round(means, 12)
    differing: Floats = rounded[rounded != 0]
    return differing
