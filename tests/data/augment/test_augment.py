from dataclasses import replace

import pytest
import torch

from busi_tune.config import AugmentConfig
from busi_tune.data.augment import augment
from busi_tune.data.augment.draws import draw_parameters, pick
from tests.data.augment.examples import EVERYTHING, NEW, NOTHING, make_batch


@pytest.mark.parametrize("size", [24, 56, 100])
def test_parameters_that_change_nothing_give_the_image_at_any_size(size: int) -> None:
    images, masks = make_batch(size=size)
    rows = draw_parameters(4, 0, 1, NOTHING)
    same, same_masks = augment(images, masks, rows, NOTHING)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-4)
    assert torch.equal(same_masks, masks)


def test_image_and_mask_stay_aligned_and_in_their_ranges() -> None:
    config = AugmentConfig(brightness=0, contrast=0)
    _, masks = make_batch(64)
    images, changed = augment(masks, masks, draw_parameters(64, 0, 1, config), config)
    assert set(changed.unique().tolist()) <= {0.0, 1.0}
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-6
    assert ((images > 0.5) == (changed > 0)).float().mean() > 0.99
    assert not torch.equal(changed, masks)


@pytest.mark.parametrize("config", [AugmentConfig(), EVERYTHING])
def test_an_image_is_changed_alike_in_any_batch(config: AugmentConfig) -> None:
    images, masks = make_batch()
    rows = draw_parameters(4, 0, 1, config)
    together, together_masks = augment(images, masks, rows, config)
    for index in range(4):
        alone, mask = augment(images[[index]], masks[[index]], rows[[index]], config)
        torch.testing.assert_close(alone, together[[index]])
        assert torch.equal(mask, together_masks[[index]])


@pytest.mark.parametrize("setting", NEW)
def test_each_setting_alone_changes_the_image_and_only_those_of_space_the_mask(
    setting: str,
) -> None:
    images, masks = make_batch(32)
    masks[1::2] = 0
    # A crop has to be there to be moved.
    plain = replace(NOTHING, crop_scale=0.3 if setting == "lesion_crop" else 1.0)
    config = replace(plain, **{setting: NEW[setting]})
    before = augment(images, masks, draw_parameters(32, 0, 1, plain), plain)
    after = augment(images, masks, draw_parameters(32, 0, 1, config), config)
    assert not torch.equal(before[0], after[0])
    in_space = setting in ("lesion_crop", "rotation", "scale", "elastic")
    assert torch.equal(before[1], after[1]) != in_space
    assert set(after[1].unique().tolist()) == {0.0, 1.0}
    assert after[0].min() >= 0 and after[0].max() <= 1 + 1e-6


def test_without_strength_only_flips_are_left() -> None:
    images, masks = make_batch(16)
    config = replace(EVERYTHING, strength=0.0)
    rows = draw_parameters(16, 0, 1, config)
    changed, changed_masks = augment(images, masks, rows, config)
    flips = torch.stack(pick(rows, "flip_horizontal", "flip_vertical"), dim=1).bool()
    assert len(flips.unique(dim=0)) == 4
    for index, (horizontal, vertical) in enumerate(flips.tolist()):
        dimensions = [2] * horizontal + [1] * vertical
        expected, expected_mask = (each[index].flip(dimensions) for each in (images, masks))
        torch.testing.assert_close(changed[index], expected, rtol=0, atol=1e-4)
        assert torch.equal(changed_masks[index], expected_mask)


def test_defaults_give_the_pictures_of_the_first_version() -> None:
    means = [0.5132276, 0.5806001, 0.5356907, 0.5612055]
    images, masks = make_batch()
    rows = draw_parameters(4, 7, 2, AugmentConfig())
    changed, changed_masks = augment(images, masks, rows, AugmentConfig())
    torch.testing.assert_close(changed.mean(dim=(1, 2, 3)), torch.tensor(means), rtol=0, atol=1e-5)
    assert changed_masks.sum(dim=(1, 2, 3)).tolist() == [357, 253, 189, 352]
