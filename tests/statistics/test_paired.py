import math

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, t, ttest_1samp, ttest_rel, wilcoxon

from busi_tune.statistics.paired import (
    corrected_t,
    holm,
    holm_levels,
    is_superior,
    rank_biserial,
    signed_rank_p,
    superiority,
)

ALONE = np.arange


def test_signed_rank_is_scipys_where_images_stand_alone() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 40))
    expected = wilcoxon(first, second).pvalue
    assert signed_rank_p(first - second, ALONE(40)) == pytest.approx(expected)


def test_signed_rank_of_a_worked_example() -> None:
    # All five favour the first: 2 of the 2^5 signs are as extreme.
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5], ALONE(5)) == pytest.approx(2 / 32)


def test_images_of_a_group_count_as_one() -> None:
    differences = np.array([0.1, 0.3, 0.1, 0.3, -0.1])
    groups = ["a", "a", "b", "c", "c"]
    # All three means favour the first: 2 of the 2^3 signs are as extreme.
    assert signed_rank_p(differences, groups) == pytest.approx(2 / 8)
    assert signed_rank_p(np.tile(differences, 50), groups * 50) == pytest.approx(2 / 8)


def test_differences_of_zero_are_left_out_and_alone_give_no_evidence() -> None:
    differences = [0.1, 0.2, -0.05, 0.4]
    expected = wilcoxon(differences).pvalue
    assert signed_rank_p([*differences, 0, 0], ALONE(6)) == pytest.approx(expected)
    assert signed_rank_p(np.zeros(8), ALONE(8)) == 1
    assert rank_biserial(np.zeros(8), ALONE(8)) == 0


@pytest.mark.parametrize("number", [1, 2, 9, 30, 60])
def test_signed_rank_takes_any_number_of_tied_groups(number: int) -> None:
    p = signed_rank_p(np.full(number, 0.1), ALONE(number))
    assert 0 <= p <= max(2 / 2**number, 1e-6)


def test_no_images_have_no_test() -> None:
    assert math.isnan(signed_rank_p([], []))
    assert math.isnan(rank_biserial([], []))
    assert math.isnan(superiority([], 0)[0])


def test_rank_biserial_of_a_worked_example() -> None:
    # Ranks 1 to 4, of which 3 and 1 favour the first: (4 - 6) / 10.
    assert rank_biserial([0.1, -0.2, 0.3, -0.4], ALONE(4)) == pytest.approx(-0.2)
    assert rank_biserial([0.1, 0.2, 0.0], ALONE(3)) == 1


def test_corrected_t_without_overlap_is_the_paired_t_test() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random((2, 10))
    test = corrected_t(first - second, 1e-12)
    expected = ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    assert test.statistic == pytest.approx(expected.statistic)
    assert test.p == pytest.approx(expected.pvalue)
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high))


def test_corrected_t_of_a_worked_example() -> None:
    # Mean 0.02, variance 0.0001 (4 + 0 + 1 + 1 + 4) / 4 of five folds with 1 test for 4 train.
    test = corrected_t([0.0, 0.02, 0.03, 0.01, 0.04], 0.25)
    error = math.sqrt(0.00025 * (1 / 5 + 1 / 4))
    assert test.difference == pytest.approx(0.02)
    assert test.standard_deviation == pytest.approx(math.sqrt(0.00025))
    assert test.statistic == pytest.approx(0.02 / error)
    assert test.p == pytest.approx(2 * t.sf(0.02 / error, 4))
    assert test.high == pytest.approx(0.02 + 2.7764451 * error)


def test_the_correction_weakens_what_the_plain_test_would_claim() -> None:
    differences = [0.01, 0.03, 0.02, 0.04, 0.01]
    assert ttest_1samp(differences, 0).pvalue < 0.05 < corrected_t(differences, 0.25).p


@pytest.mark.parametrize(("difference", "p"), [(0.0, 1.0), (0.25, 0.0), (-0.25, 0.0)])
def test_folds_without_any_spread(difference: float, p: float) -> None:
    test = corrected_t([difference] * 5, 0.25)
    assert test.p == p
    assert (test.low, test.high) == (difference, difference)


@pytest.mark.parametrize("differences", [[], [0.1]])
def test_one_training_has_no_t_test(differences: list[float]) -> None:
    test = corrected_t(differences, 0.25)
    assert all(math.isnan(value) for value in (test.p, test.low, test.high, test.statistic))


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (0, 5), (3, 2), (20, 5), (1, 0)])
def test_superiority_has_the_exact_interval(wins: int, losses: int) -> None:
    share, low, high = superiority([0.1] * wins + [-0.1] * losses, wins + losses)
    expected = binomtest(wins, wins + losses).proportion_ci(method="exact")
    assert share == wins / (wins + losses)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_ties_count_half() -> None:
    share, low, high = superiority([0.1, 0.0, 0.0, -0.1], 4)
    assert share == 0.5
    assert low == pytest.approx(1 - high)
    assert superiority([0.0] * 5, 5)[0] == 0.5


def test_repeats_make_the_share_finer_and_not_its_interval_narrower() -> None:
    assert superiority([0.1] * 15, 5) == superiority([0.1] * 5, 5)
    share, low, high = superiority([0.1] * 8 + [-0.1] * 7, 5)
    assert share == pytest.approx(8 / 15)
    assert (low, high) == pytest.approx((beta.ppf(0.025, 8 / 3, 10 / 3),
                                         beta.ppf(0.975, 11 / 3, 7 / 3)))  # fmt: skip


@pytest.mark.parametrize("number", [5, 10, 15, 25])
def test_the_interval_of_superiority_never_covers_less_than_it_says(number: int) -> None:
    pairs = [[1.0] * wins + [-1.0] * (number - wins) for wins in range(number + 1)]
    ends = [superiority(differences, number) for differences in pairs]
    for truth in np.linspace(0.01, 0.99, 99):
        chances = binom.pmf(np.arange(number + 1), number, truth)
        inside = [low <= truth <= high for _, low, high in ends]
        assert chances @ inside >= 0.95


def test_holm_of_a_worked_example() -> None:
    # 3 x 0.01; 2 x 0.03 = 0.06; 0.04 is raised to its predecessor's.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_is_monotone_capped_and_skips_what_is_no_number() -> None:
    p_values = np.random.default_rng(0).random(12)
    adjusted = np.array(holm(list(p_values)))
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()
    assert (adjusted >= p_values).all() and adjusted.max() == 1
    assert holm([0.02]) == [0.02]
    some = holm([math.nan, 0.02, 0.5])
    assert math.isnan(some[0]) and some[1:] == [0.04, 0.5]


def test_holms_levels_are_where_its_adjusted_p_reaches_the_level() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        p_values = list(0.05 * generator.random(4))
        rejected = np.array(holm(p_values)) < 0.05
        assert (rejected == (np.array(p_values) < holm_levels(p_values))).all()


def test_levels_of_a_worked_example() -> None:
    # 0.001 meets 0.05 / 3 and passes, 0.04 fails at 0.05 / 2, where 0.045 would have had to pass.
    assert holm_levels([0.045, 0.001, 0.04]) == pytest.approx([0.025, 0.05 / 3, 0.025])


@pytest.mark.parametrize(
    ("low", "high", "p", "difference", "claimed"),
    [(0.01, 0.05, 0.01, 0.03, True), (0.01, 0.05, 0.06, 0.03, False),
     (-0.01, 0.05, 0.01, 0.03, False), (-0.05, -0.01, 0.01, -0.03, True),
     (0.01, 0.05, 0.01, -0.03, False), (0.01, 0.05, math.nan, 0.03, False)],
)  # fmt: skip
def test_a_claim_needs_test_and_interval(
    low: float, high: float, p: float, difference: float, claimed: bool
) -> None:
    assert is_superior(low, high, p, difference) is claimed
