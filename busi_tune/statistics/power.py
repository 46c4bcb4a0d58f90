"""What the corrected t test could have found, and what it would take to find what was seen."""

import math

import numpy as np

from busi_tune.statistics.paired import ALPHA, standard_error

POWER = 0.8
MAX_REPEATS = 1000

_NUM_SPREADS = 1000  # leaves an error of the power below 1e-4


def t_power(difference: float, error: float, freedom: int, level: float = ALPHA) -> float:
    """Compute the power of the two-sided t test against a true difference.

    Args:
        difference: true mean.
        error: standard error that the test uses, above 0.
        freedom: degrees of freedom.
        level: of the test.
    """
    from scipy.stats import chi2, norm, t

    # Averaged over the spread that a sample shows; scipy's noncentral t fails at few folds.
    levels = (np.arange(_NUM_SPREADS) + 0.5) / _NUM_SPREADS
    critical = t.isf(level / 2, freedom) * np.sqrt(chi2.ppf(levels, freedom) / freedom)
    shift = abs(difference) / error
    return float(np.mean(norm.sf(critical - shift) + norm.cdf(-critical - shift)))


def detectable_difference(
    sd: float, num_trainings: int, test_over_train: float, level: float = ALPHA
) -> float:
    """Return the true difference that the corrected t test finds with a power of 80 %.

    Args:
        sd: standard deviation of the difference over trainings.
        num_trainings: folds x repeats.
        test_over_train: images of a test part over those of its training part.
        level: of the test, Holm's where there are several pairs.

    Returns:
        Not a number with fewer than two trainings.
    """
    from scipy.optimize import brentq

    if num_trainings < 2 or math.isnan(sd):
        return math.nan
    freedom = num_trainings - 1

    def lacking(shift: float) -> float:
        return t_power(shift, 1.0, freedom, level) - POWER

    end = 1.0
    while lacking(end) < 0:
        end *= 2
    return float(brentq(lacking, 0, end)) * standard_error(sd, num_trainings, test_over_train)


def repeats_needed(
    difference: float, sd: float, num_folds: int, test_over_train: float, level: float = ALPHA
) -> int | None:
    """Return about how many repeats of the folds would settle a difference with a power of 80 %.

    The spread over trainings is taken as it was seen. However many repeats there are, the variance
    does not fall below s^2 test / train, since the folds' images stay the same.

    Args:
        difference: true difference, as far as is known.
        sd: standard deviation of the difference over trainings.
        num_folds: of a repeat.
        test_over_train: images of a test part over those of its training part.
        level: of the test.

    Returns:
        None where no number of repeats would do, up to 1000.
    """

    def suffices(repeats: int) -> bool:
        number = repeats * num_folds
        if number < 2:
            return False
        error = standard_error(sd, number, test_over_train)
        return error == 0 or t_power(difference, error, number - 1, level) >= POWER

    if math.isnan(difference) or math.isnan(sd) or difference == 0 or not suffices(MAX_REPEATS):
        return None
    too_few, enough = 0, MAX_REPEATS
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if suffices(middle) else (middle, enough)
    return enough
