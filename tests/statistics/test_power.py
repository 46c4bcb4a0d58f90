import math

import numpy as np
import pytest
from scipy.stats import nct
from scipy.stats import t as student

from busi_tune.statistics.power import (
    detectable_difference,
    repeats_needed,
    t_power,
)


def test_power_is_the_share_of_tests_that_find_the_difference() -> None:
    values = 0.8 + np.random.default_rng(0).normal(size=(20_000, 6))
    statistics = values.mean(axis=1) / (values.std(axis=1, ddof=1) / math.sqrt(6))
    found = np.mean(np.abs(statistics) > student.isf(0.025, 5))
    assert t_power(0.8, 1 / math.sqrt(6), 5) == pytest.approx(found, abs=0.01)


@pytest.mark.parametrize("freedom", [4, 9, 24])
@pytest.mark.parametrize("shift", [0.5, 2.0, 4.0])
def test_power_is_that_of_the_noncentral_t(freedom: int, shift: float) -> None:
    critical = student.isf(0.025, freedom)
    expected = nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift)
    assert t_power(shift, 1.0, freedom) == pytest.approx(expected, abs=1e-4)


def test_without_a_difference_the_power_is_the_level() -> None:
    assert t_power(0, 1.0, 7) == pytest.approx(0.05, abs=1e-4)
    assert t_power(0, 1.0, 7, level=0.01) == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(("number", "ratio"), [(2, 0.25), (5, 0.25), (25, 0.28), (10, 0.0)])
def test_detectable_difference_has_a_power_of_80_percent(number: int, ratio: float) -> None:
    difference = detectable_difference(0.02, number, ratio, level=0.02)
    error = 0.02 * math.sqrt(1 / number + ratio)
    assert t_power(difference, error, number - 1, level=0.02) == pytest.approx(0.8)


def test_detectable_difference_of_many_trainings_is_the_normal_one() -> None:
    # z(0.975) + z(0.8) = 1.95996 + 0.84162 standard errors.
    expected = (1.95996 + 0.84162) * math.sqrt(1 / 5000 + 0.25)
    assert detectable_difference(1.0, 5000, 0.25) == pytest.approx(expected, rel=1e-3)


def test_one_training_detects_nothing() -> None:
    assert math.isnan(detectable_difference(math.nan, 1, 0.25))
    assert repeats_needed(0.01, math.nan, 1, 0.25) is None


@pytest.mark.parametrize("difference", [0.032, 0.04, 0.06])
def test_repeats_needed_is_the_smallest_number_that_reaches_the_power(difference: float) -> None:
    def power(repeats: int) -> float:
        number = 5 * repeats
        return t_power(difference, 0.02 * math.sqrt(1 / number + 0.25), number - 1)

    repeats = repeats_needed(difference, 0.02, 5, 0.25)
    assert repeats is not None
    assert power(repeats) >= 0.8
    assert repeats == 1 or power(repeats - 1) < 0.8


def test_no_number_of_repeats_gets_below_the_floor() -> None:
    # With any number of repeats the error stays above 0.02 x 0.5, and 2.80 errors are needed.
    assert repeats_needed(0.0279, 0.02, 5, 0.25) is None
    assert repeats_needed(0.0285, 0.02, 5, 0.25) is not None
    assert repeats_needed(0.0, 0.02, 5, 0.25) is None
    assert repeats_needed(0.002, 0.02, 5, 0.0) is not None
