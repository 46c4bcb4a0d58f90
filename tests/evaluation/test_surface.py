import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter

from busi_tune.evaluation.surface import (
    DEFINITION,
    TOLERANCE_PX,
    boundary_distances,
    find_boundary,
    surface_scores,
)

Mask = npt.NDArray[np.bool_]


def rectangle(top: int, left: int, height: int, width: int) -> Mask:
    mask = np.zeros((40, 60), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def draw_blobs(seed: int, shape: tuple[int, int] = (70, 90)) -> Mask:
    """Several smooth lesions, some of them at the image's edge."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 6)
    return np.asarray(noise > np.quantile(noise, 0.8))


def random_pairs() -> Iterator[tuple[Mask, Mask]]:
    for seed in range(12):
        first = draw_blobs(seed)
        down, right = seed % 5, seed % 7
        yield np.pad(first, ((down, 0), (right, 0)))[:70, :90], first
        yield draw_blobs(100 + seed), first
    generator = np.random.default_rng(0)
    yield generator.random((30, 41)) < 0.4, generator.random((30, 41)) < 0.4


def test_a_boundary_is_the_outermost_pixels_and_the_image_edge_is_outside() -> None:
    mask = rectangle(0, 0, 4, 5)
    expected = mask.copy()
    expected[1:3, 1:4] = False
    assert np.array_equal(find_boundary(mask), expected)
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    assert np.array_equal(find_boundary(ring), ring)


def test_equal_masks_have_distance_0_and_nsd_1() -> None:
    mask = rectangle(5, 5, 10, 12)
    assert surface_scores(mask, mask) == {"hd95": 0.0, "nsd": 1.0}


def test_a_single_pixel_against_another() -> None:
    scores = surface_scores(rectangle(3, 4, 1, 1), rectangle(6, 8, 1, 1))
    assert scores == {"hd95": 5.0, "nsd": 0.0}


def test_a_shifted_square_by_hand() -> None:
    # Of the 36 boundary pixels of a 10 x 10 square that is shifted by 3 to the right: the first
    # three of the top and of the bottom row are 3, 2 and 1 from the other square, the others of
    # those rows lie on it. The left side's inner 8 are 3 away. Of the right side's inner 8, three
    # columns inside the other square, the outer ones are nearer to its top or bottom row: 1, 2
    # and 3 at either end, 3 (to the left side) for the two between them.
    first, second = rectangle(10, 10, 10, 10), rectangle(10, 13, 10, 10)
    directed = boundary_distances(first, second)
    assert directed is not None
    expected = sorted([0] * 14 + [1, 2, 3] * 2 + [3] * 8 + [1, 2, 3, 3, 3, 3, 2, 1])
    for distances in directed:
        assert sorted(distances) == expected
    assert surface_scores(first, second) == {
        "hd95": 3.0,
        "nsd": pytest.approx(np.mean(np.array(expected) <= TOLERANCE_PX)),
    }


def test_distances_at_the_tolerance_count_as_near() -> None:
    line = rectangle(10, 10, 1, 20)
    assert surface_scores(rectangle(12, 10, 1, 20), line) == {"hd95": 2.0, "nsd": 1.0}
    assert surface_scores(rectangle(13, 10, 1, 20), line) == {"hd95": 3.0, "nsd": 0.0}


def test_hd95_takes_the_worse_direction_and_forgives_5_percent() -> None:
    truth = rectangle(10, 10, 1, 20)
    missed = truth | rectangle(30, 10, 1, 20)
    assert surface_scores(truth, missed)["hd95"] == 20.0
    assert surface_scores(missed, truth)["hd95"] == 20.0
    stray = truth | rectangle(30, 10, 1, 1)
    assert surface_scores(stray, truth)["hd95"] == 0.0


def test_the_image_edge_is_no_outline_of_its_own() -> None:
    # A lesion that fills the image to the left edge: moving that part away changes nothing else.
    at_edge, inside = rectangle(10, 0, 10, 10), rectangle(10, 1, 10, 9)
    scores = surface_scores(at_edge, inside)
    assert scores == {"hd95": 1.0, "nsd": 1.0}


@pytest.mark.parametrize(
    ("predicted", "truth", "hd95", "nsd"),
    [(0, 0, 0.0, 1.0), (0, 1, math.hypot(40, 60), 0.0), (1, 0, math.hypot(40, 60), 0.0)],
    ids=["both empty", "prediction empty", "truth empty"],
)
def test_empty_masks_follow_the_rule(predicted: int, truth: int, hd95: float, nsd: float) -> None:
    masks = [rectangle(5, 5, 3 * size, 4 * size) for size in (predicted, truth)]
    assert surface_scores(*masks) == {"hd95": hd95, "nsd": nsd}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the library's own imports
def test_scores_are_those_of_monai() -> None:
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    for masks in random_pairs():
        predicted, truth = (torch.from_numpy(mask)[None, None] for mask in masks)
        scores = surface_scores(*masks)
        hd95 = compute_hausdorff_distance(predicted, truth, percentile=95)
        assert scores["hd95"] == pytest.approx(hd95.item(), rel=1e-6)
        nsd = compute_surface_dice(predicted, truth, [TOLERANCE_PX])
        assert scores["nsd"] == pytest.approx(nsd.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the library's use of scipy
def test_scores_are_near_those_of_surface_distance() -> None:
    import surface_distance as library

    # It places the outline between the pixels and weights it by length, so that corners and
    # single pixels count otherwise: on these outlines up to 1.2 pixels, and 0.12 where a shift is
    # just beyond the tolerance (0.05 elsewhere).
    pairs = [pair for pair in random_pairs() if pair[0].shape == (70, 90)]
    for predicted, truth in pairs:
        found = library.compute_surface_distances(truth, predicted, (1.0, 1.0))
        scores = surface_scores(predicted, truth)
        assert scores["hd95"] == pytest.approx(library.compute_robust_hausdorff(found, 95), abs=1.2)
        overlap = library.compute_surface_dice_at_tolerance(found, TOLERANCE_PX)
        assert scores["nsd"] == pytest.approx(overlap, abs=0.12)


def test_swapping_the_masks_changes_nothing() -> None:
    for first, second in random_pairs():
        assert surface_scores(first, second) == surface_scores(second, first)


def test_the_definition_states_tolerance_and_unit() -> None:
    assert "2 pixels" in DEFINITION
    assert "original pixels" in DEFINITION
