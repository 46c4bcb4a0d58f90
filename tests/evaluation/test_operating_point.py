import numpy as np
import pytest
from scipy import ndimage

from busi_tune.evaluation.counts import compute_metrics
from busi_tune.evaluation.levels import threshold_level
from busi_tune.evaluation.operating_point import (
    COMPONENTS_PX,
    THRESHOLDS,
    Counts,
    OperatingPoint,
    choose_operating_point,
    counts_at,
    counts_by_threshold,
    counts_everywhere,
    pick,
)

SHAPE = (80, 90)


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth levels with lesions of many sizes, and a truth that agrees with some of them."""
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.standard_normal(SHAPE), 4)
    levels = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
    truth = ndimage.gaussian_filter(noise + 0.02 * generator.standard_normal(SHAPE), 2) > 0.05
    return levels, truth


def count_slowly(levels: np.ndarray, truth: np.ndarray, threshold: float, size: int) -> list[int]:
    components, number = ndimage.label(levels >= threshold_level(threshold), np.ones((3, 3)))
    lesion = np.zeros(levels.shape, dtype=bool)
    for component in range(1, number + 1):
        if (components == component).sum() >= size:
            lesion |= components == component
    pairs = ((lesion, truth), (lesion, ~truth), (~lesion, truth), (~lesion, ~truth))
    return [int((one & other).sum()) for one, other in pairs]


def test_counts_are_those_of_a_slow_count_with_scipy() -> None:
    for seed in range(3):
        levels, truth = make_case(seed)
        everywhere = counts_everywhere(levels, truth)
        assert everywhere.shape == (len(THRESHOLDS), len(COMPONENTS_PX), 4)
        for row in range(0, len(THRESHOLDS), 3):
            for column, size in enumerate(COMPONENTS_PX):
                expected = count_slowly(levels, truth, THRESHOLDS[row], size)
                assert everywhere[row, column].tolist() == expected
                point = OperatingPoint(THRESHOLDS[row], size)
                assert counts_at(levels, truth, point).tolist() == expected
                assert pick(everywhere[None], point).tolist() == [expected]


def test_histograms_give_the_counts_of_every_threshold() -> None:
    levels, truth = make_case(5)
    everywhere = counts_everywhere(levels, truth)
    assert np.array_equal(counts_by_threshold(levels, truth), everywhere[:, 0])


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("lesion", [False, True])
def test_uniform_maps_and_empty_masks_are_counted(level: int, lesion: bool) -> None:
    levels = np.full(SHAPE, level, dtype=np.uint8)
    truth = np.zeros(SHAPE, dtype=bool)
    truth[:10, :10] = lesion
    expected = count_slowly(levels, truth, 0.5, 0)
    assert counts_at(levels, truth, OperatingPoint(0.5, 0)).tolist() == expected
    assert (counts_everywhere(levels, truth) == expected).all()


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    levels = np.zeros(SHAPE, dtype=np.uint8)
    levels[10:15, 10:15] = levels[15:20, 15:20] = 255
    truth = levels > 0
    assert counts_at(levels, truth, OperatingPoint(0.5, 50))[0] == 50
    assert counts_at(levels, truth, OperatingPoint(0.5, 100))[0] == 0


def counts_with_dice(best: list[tuple[int, int]], images: int = 1) -> Counts:
    """Counts whose Dice is 1 at the given positions of the grid and 0.5 elsewhere."""
    counts = np.zeros((images, len(THRESHOLDS), len(COMPONENTS_PX), 4), dtype=np.int64)
    counts[...] = (1, 1, 1, 1)
    for row, column in best:
        counts[:, row, column] = (1, 0, 0, 1)
    return counts


@pytest.mark.parametrize(
    ("best", "threshold", "size"),
    [
        ([], 0.5, 0),
        ([(3, 4)], 0.2, 500),
        ([(0, 1), (18, 1)], 0.05, 50),
        ([(7, 5), (12, 0)], 0.4, 1000),
        ([(8, 2), (10, 1)], 0.55, 50),
        ([(9, 3), (9, 5)], 0.5, 200),
    ],
)
def test_of_equal_points_that_nearest_to_a_half_and_0_is_chosen(
    best: list[tuple[int, int]], threshold: float, size: int
) -> None:
    chosen = choose_operating_point(counts_with_dice(best, images=3))
    assert chosen == OperatingPoint(threshold, size)


def test_the_mean_over_images_decides() -> None:
    counts = counts_with_dice([(2, 0)], images=3)
    counts[1:, 2, 0] = (0, 9, 9, 1)
    counts[0, 4, 1] = counts[1, 4, 1] = (1, 0, 0, 1)
    assert choose_operating_point(counts) == OperatingPoint(THRESHOLDS[4], 50)


def test_the_chosen_point_is_the_best_of_all() -> None:
    counts = np.stack([counts_everywhere(*make_case(seed)) for seed in range(4)])
    point = choose_operating_point(counts)
    best = compute_metrics(pick(counts, point))["dice"].mean()
    others = [
        compute_metrics(pick(counts, OperatingPoint(threshold, size)))["dice"].mean()
        for threshold in THRESHOLDS
        for size in COMPONENTS_PX
    ]
    assert best == pytest.approx(max(others), abs=1e-12)
    assert best > compute_metrics(pick(counts, OperatingPoint(0.5, 0)))["dice"].mean()


def test_an_empty_image_gains_by_removing_small_lesions() -> None:
    levels = np.zeros(SHAPE, dtype=np.uint8)
    levels[5:12, 5:12] = 200
    normal = counts_everywhere(levels, np.zeros(SHAPE, dtype=bool))
    assert choose_operating_point(normal[None]) == OperatingPoint(0.5, 50)
