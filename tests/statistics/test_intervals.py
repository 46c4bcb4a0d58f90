import math

import numpy as np
import pytest
from scipy.stats import binomtest

from busi_tune.statistics.intervals import (
    bootstrap_means,
    difference_of_means,
    summarise,
    summarise_trainings,
    wilson,
)


def test_mean_and_sd_are_those_over_images() -> None:
    values = np.random.default_rng(0).random((50, 3))
    for column, summary in zip(values.T, summarise(values), strict=True):
        assert summary.num_images == 50
        assert summary.mean == pytest.approx(column.mean())
        assert summary.sd == pytest.approx(column.std(ddof=1))
        assert summary.low < summary.mean < summary.high


def test_interval_is_near_the_normal_one_for_many_images() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 1))
    (summary,) = summarise(values)
    half = 1.96 * summary.sd / math.sqrt(2000)
    assert summary.low == pytest.approx(summary.mean - half, abs=0.05 * half)
    assert summary.high == pytest.approx(summary.mean + half, abs=0.05 * half)


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        (summary,) = summarise(generator.beta(4, 1, size=(80, 1)), num_resamples=500)
        covered += summary.low <= 0.8 <= summary.high
    assert 0.92 <= covered / 400 <= 0.98


def test_interval_over_groups_covers_where_the_one_over_images_does_not() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    covered = {"groups": 0, "images": 0}
    for _ in range(200):
        values = (generator.normal(size=60)[groups] + 0.2 * generator.normal(size=300))[:, None]
        for name, given in (("groups", groups), ("images", None)):
            (summary,) = summarise(values, given, num_resamples=400)
            covered[name] += summary.low <= 0 <= summary.high
    assert covered["groups"] / 200 >= 0.9
    assert covered["images"] / 200 <= 0.75


def test_groups_of_one_image_each_change_nothing() -> None:
    values = np.random.default_rng(0).random((30, 2))
    assert summarise(values) == summarise(values, [f"{index:02}" for index in range(30)])


def test_a_large_group_weighs_by_its_images() -> None:
    values = np.array([[1.0], [1.0], [1.0], [0.0]])
    means = bootstrap_means(values, ["a", "a", "a", "b"], num_resamples=200, seed=0)
    assert set(np.unique(means)) == {0.0, 0.75, 1.0}


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).random((30, 1))
    assert summarise(values, seed=1) == summarise(values, seed=1) != summarise(values, seed=2)


def test_no_images_give_no_figures() -> None:
    (summary,) = summarise(np.zeros((0, 1)))
    assert summary.num_images == 0
    assert math.isnan(summary.mean) and math.isnan(summary.low)


def test_one_image_has_a_mean_and_no_spread() -> None:
    (summary,) = summarise([[0.5]])
    assert (summary.mean, summary.low, summary.high) == (0.5, 0.5, 0.5)
    assert math.isnan(summary.sd)


def test_difference_of_two_sets_is_that_of_their_means() -> None:
    generator = np.random.default_rng(0)
    values, first = generator.random(200), generator.random(200) < 0.3
    mean, low, high = difference_of_means(values, first, np.arange(200))
    assert mean == pytest.approx(values[first].mean() - values[~first].mean())
    variances = (values[part].var(ddof=1) / part.sum() for part in (first, ~first))
    half = 1.96 * math.sqrt(sum(variances))
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_groups_with_an_image_in_both_sets_are_drawn_as_pairs() -> None:
    # Each pair differs by 0.1, whatever its level: no resample can differ otherwise.
    levels = np.random.default_rng(0).normal(size=40)
    values = np.concatenate([levels + 0.1, levels])
    first, groups = np.repeat([True, False], 40), np.tile(np.arange(40), 2)
    assert difference_of_means(values, first, groups) == pytest.approx((0.1, 0.1, 0.1))
    apart = difference_of_means(values, first, np.arange(80))
    assert apart[1] < -0.1 < 0.3 < apart[2]


def test_resamples_without_one_of_the_sets_are_left_out() -> None:
    mean, low, high = difference_of_means([1.0, 0.0], [True, False], ["a", "b"])
    assert (mean, low, high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("successes", "number"), [(0, 10), (3, 10), (10, 10), (85, 120), (1, 1)])
def test_wilson_interval_is_scipys(successes: int, number: int) -> None:
    expected = binomtest(successes, number).proportion_ci(method="wilson")
    assert wilson(successes, number) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_a_worked_example() -> None:
    # 1 of 4 at z = 2: centre (0.25 + 0.5) / 2, half (2 sqrt(0.25 * 0.75 / 4 + 4 / 64)) / 2.
    low, high = wilson(1, 4, level=math.erf(math.sqrt(2)))
    half = math.sqrt(0.046875 + 0.0625)
    assert (low, high) == pytest.approx((0.375 - half, 0.375 + half))


def test_half_a_success_lies_between_none_and_one() -> None:
    none, half, one = (wilson(successes, 20) for successes in (0, 0.5, 1))
    assert none[0] < half[0] < one[0]
    assert none[1] < half[1] < one[1]


def test_no_images_have_no_share() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))


def test_intervals_over_trainings_cover_what_those_over_images_miss() -> None:
    generator = np.random.default_rng(0)
    covered = {"both": 0, "images": 0}
    for _ in range(200):
        trained = generator.normal(0, 0.5, 6)  # each training is better or worse on all images
        values = trained + generator.normal(0, 0.2, (40, 6))
        found = summarise_trainings(values, ["a"] * 6, np.arange(40), num_resamples=400)["a"]
        covered["both"] += found.low <= 0 <= found.high
        (alone,) = summarise(values.mean(axis=1)[:, None], num_resamples=400)
        covered["images"] += alone.low <= 0 <= alone.high
    assert covered["both"] / 200 >= 0.8
    assert covered["images"] / 200 <= 0.5


def test_models_are_compared_on_the_same_groups() -> None:
    hard = np.random.default_rng(0).normal(0, 1, 30)
    values = np.column_stack([hard, hard, hard - 0.1, hard - 0.1])
    found = summarise_trainings(values, ["a", "a", "b", "b"], np.arange(30))
    assert list(found) == ["a", "b", "a - b"]
    assert found["a - b"].low == pytest.approx(0.1)
    assert found["a - b"].high == pytest.approx(0.1)
    assert found["a"].high - found["a"].low > 0.5
