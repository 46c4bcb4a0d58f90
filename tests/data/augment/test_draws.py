from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.draws import COLUMNS, control_points, draw_parameters
from tests.data.augment.examples import EVERYTHING, NEW, column

CROP = ("left", "top", "width", "height")
FIRST_VERSION = [
    [1.03739643, 1.15662920, 0.0, 0.13148704, 0.17768893, 0.73517442, 0.66104472, 0.0, 1.0],
    [1.15473855, 1.12677860, 0.0, 0.12605453, 0.09322286, 0.84495944, 0.78188270, 0.0, 1.0],
    [1.09955907, 0.88210422, 1.0, 0.01784944, 0.14008446, 0.95718670, 0.85455906, 0.0, 1.0],
]
"""Images 0 to 2 under seed 7 in epoch 2."""


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    first = draw_parameters(20, 3, 5, EVERYTHING)
    torch.manual_seed(1)
    assert torch.equal(first, draw_parameters(20, 3, 5, EVERYTHING))
    assert not torch.equal(first, draw_parameters(20, 3, 6, EVERYTHING))
    assert not torch.equal(first, draw_parameters(20, 4, 5, EVERYTHING))


def test_draws_of_jitter_crop_and_flips_are_those_of_the_first_version() -> None:
    values = draw_parameters(3, 7, 2, AugmentConfig())[:, :9]
    torch.testing.assert_close(values, torch.tensor(FIRST_VERSION), rtol=0, atol=1e-6)


def test_draws_stay_within_the_configured_ranges() -> None:
    config = AugmentConfig(brightness=0.3, contrast=0.1, horizontal_flip=0.8, vertical_flip=0)
    values = draw_parameters(4000, 0, 1, config)
    assert column(values, "brightness").min() >= 0.7
    assert column(values, "brightness").max() <= 1.3
    assert column(values, "contrast").sub(1).abs().max() <= 0.1001
    assert column(values, "contrast_first").mean() == pytest.approx(0.5, abs=0.05)
    assert column(values, "flip_horizontal").mean() == pytest.approx(0.8, abs=0.05)
    assert column(values, "flip_vertical").sum() == 0
    for corner, side in (("left", "width"), ("top", "height")):
        assert column(values, corner).min() >= 0
        assert (column(values, corner) + column(values, side)).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("rotation", -20, 20), ("zoom", 1 / 1.3, 1.3), ("gamma", 1 / 1.4, 1.4),
        ("speckle", 0, 0.3), ("blur", 0, 1.5), ("hole_side", 0, 0.5),
        ("across", 0, 1), ("down", 0, 1), ("pixel", 0, 1), ("noise", 0, 2**24),
    ],
)  # fmt: skip
def test_new_draws_fill_their_ranges(name: str, low: float, high: float) -> None:
    values = column(draw_parameters(4000, 0, 1, EVERYTHING), name)
    slack = 0.01 * (high - low)
    assert low - 1e-6 <= values.min() < low + slack
    assert high - slack < values.max() <= high + 1e-6


def test_holes_and_displacements_stay_within_the_image_and_the_limit() -> None:
    values = draw_parameters(4000, 0, 1, EVERYTHING)
    for corner in ("hole_left", "hole_top"):
        assert column(values, corner).min() >= 0
        assert (column(values, corner) + column(values, "hole_side")).max() <= 1 + 1e-6
    points = control_points(values)
    assert points.shape == (4000, 2, 7, 7)
    assert 0.099 < points.abs().max() <= 0.1
    assert points.mean().abs() < 1e-3
    assert column(values, "on_lesion").mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("setting", "columns"),
    [
        ("brightness", {"brightness"}), ("contrast", {"contrast"}), ("crop_scale", set(CROP)),
        ("crop_ratio", set(CROP)), ("horizontal_flip", {"flip_horizontal"}),
        ("vertical_flip", {"flip_vertical"}), ("lesion_crop", {"on_lesion"}),
        ("rotation", {"rotation"}), ("scale", {"zoom"}), ("gamma", {"gamma"}),
        ("speckle", {"speckle"}), ("blur", {"blur"}),
        ("cutout", {"hole_side", "hole_left", "hole_top"}), ("elastic", set()),
    ],
)  # fmt: skip
def test_a_setting_changes_its_own_draws_and_no_others(setting: str, columns: set[str]) -> None:
    other = replace(EVERYTHING, **{setting: 0.9 * getattr(EVERYTHING, setting)})
    before, after = (draw_parameters(300, 0, 1, config) for config in (EVERYTHING, other))
    changed = {
        name for name in COLUMNS if not torch.equal(column(before, name), column(after, name))
    }
    assert changed == columns
    same = torch.equal(control_points(before), control_points(after))
    assert same == (setting != "elastic")


def test_crops_are_distributed_as_those_of_torchvision() -> None:
    size, image = 1000, torch.empty(1, 1000, 1000)
    torch.manual_seed(0)
    draws = [RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(1500)]
    expected = torch.tensor(draws) / size
    values = draw_parameters(1500, 0, 1, AugmentConfig())
    for position, name in enumerate(("top", "left", "height", "width")):
        assert ks_2samp(expected[:, position], column(values, name)).pvalue > 0.001, name


def test_crop_that_never_fits_keeps_the_whole_image() -> None:
    config = AugmentConfig(crop_scale=0.999, crop_ratio=0.5)
    values = draw_parameters(200, 0, 1, config)
    whole = column(values, "width") == 1
    assert whole.float().mean() > 0.9
    assert (column(values, "height")[whole] == 1).all()
    assert (column(values, "left")[whole] == 0).all()


def test_strength_multiplies_strengths_and_no_probabilities() -> None:
    full, half = (
        draw_parameters(200, 0, 1, replace(EVERYTHING, strength=strength)) for strength in (1, 0.5)
    )
    for name in ("rotation", "speckle", "blur", "hole_side"):
        torch.testing.assert_close(column(half, name), column(full, name) / 2)
    for name in ("brightness", "contrast"):
        torch.testing.assert_close(column(half, name) - 1, (column(full, name) - 1) / 2)
    for name in ("flip_horizontal", "flip_vertical", "on_lesion", "contrast_first"):
        assert torch.equal(column(half, name), column(full, name))
    torch.testing.assert_close(control_points(half), control_points(full) / 2)
    by_hand = replace(EVERYTHING, crop_scale=0.08**0.5, crop_ratio=0.75**0.5)
    for name in CROP:
        assert torch.equal(column(half, name), column(draw_parameters(200, 0, 1, by_hand), name))


@pytest.mark.parametrize("strength", [2.0, 30.0])
def test_a_large_strength_still_gives_crops_and_holes_within_the_image(strength: float) -> None:
    values = draw_parameters(500, 0, 1, replace(EVERYTHING, strength=strength))
    assert values.isfinite().all()
    for corner, side in (("left", "width"), ("top", "height"), ("hole_left", "hole_side")):
        assert column(values, corner).min() >= 0
        assert (column(values, corner) + column(values, side)).max() <= 1 + 1e-6


def test_without_strength_only_flips_are_left() -> None:
    values = draw_parameters(200, 0, 1, AugmentConfig(strength=0, **NEW))
    for name in ("brightness", "contrast", "zoom", "gamma", "width", "height"):
        assert (column(values, name) == 1).all(), name
    for name in ("rotation", "speckle", "blur", "hole_side", "left", "top"):
        assert (column(values, name) == 0).all(), name
    assert 0 < column(values, "flip_vertical").mean() < 1
