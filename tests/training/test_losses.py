import math
from dataclasses import fields

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional

from busi_tune.config import LossConfig
from busi_tune.training.losses import (
    batch_dice,
    bce,
    build_losses,
    compute_loss,
    dice,
    focal,
    jaccard,
    tversky,
)
from busi_tune.training.lovasz import lovasz

LOSSES = build_losses(LossConfig())


def draw(num_images: int = 4, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(num_images, 1, size, size, generator=generator)
    masks = (torch.rand(num_images, 1, size, size, generator=generator) > 0.7).float()
    return logits, masks


def fill(value: float, num_images: int = 1) -> Tensor:
    return torch.full((num_images, 1, 8, 8), value)


def test_bce_is_torchs_of_each_image() -> None:
    logits, masks = draw()
    for image, loss in enumerate(bce(logits, masks)):
        expected = functional.binary_cross_entropy_with_logits(logits[image], masks[image])
        torch.testing.assert_close(loss, expected)


def test_dice_is_the_librarys_of_each_image() -> None:
    logits, masks = draw()
    # The library smooths half the fraction's numerator and denominator.
    oracle = smp.losses.DiceLoss("binary", smooth=0.5)
    for image, loss in enumerate(dice(logits, masks)):
        torch.testing.assert_close(loss, oracle(logits[image : image + 1], masks[image]))


@pytest.mark.parametrize(
    ("logit", "mask", "expected"),
    [(-100.0, 0.0, 0.0), (100.0, 1.0, 0.0), (100.0, 0.0, 64 / 65), (-100.0, 1.0, 64 / 65)],
)
def test_dice_of_empty_and_full_masks(logit: float, mask: float, expected: float) -> None:
    assert dice(fill(logit), fill(mask)).item() == pytest.approx(expected)


def test_dice_punishes_false_positives_of_a_batch_without_foreground() -> None:
    logits = fill(0.0, num_images=2).requires_grad_()
    dice(logits, fill(0.0, num_images=2)).mean().backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_dice_of_an_image_does_not_depend_on_its_batch() -> None:
    logits, masks = draw()
    halves = torch.cat([dice(logits[:2], masks[:2]), dice(logits[2:], masks[2:])])
    torch.testing.assert_close(dice(logits, masks), halves)


def test_batch_dice_is_the_reports_over_the_whole_batch() -> None:
    logits, masks = draw()
    overlap, total = (logits.sigmoid() * masks).sum(), logits.sigmoid().sum() + masks.sum()
    expected = 1 - 2 * (overlap + 1) / (total + 1)
    torch.testing.assert_close(batch_dice(logits, masks), expected.repeat(4))


def test_batch_dice_falls_to_minus_one_on_empty_masks() -> None:
    assert batch_dice(fill(-100.0, 3), fill(0.0, 3)).tolist() == [-1.0] * 3


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, masks = draw()
    torch.testing.assert_close(focal(logits, masks, gamma=0.0), bce(logits, masks))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_the_librarys_of_each_image(gamma: float) -> None:
    logits, masks = draw()
    oracle = smp.losses.FocalLoss("binary", gamma=gamma)
    for image, loss in enumerate(focal(logits, masks, gamma)):
        torch.testing.assert_close(loss, oracle(logits[image], masks[image]))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.7])
def test_tversky_is_the_librarys_of_each_image(alpha: float) -> None:
    logits, masks = draw()
    # As for Dice; and without a lesion the library's loss is 0, whatever is predicted.
    oracle = smp.losses.TverskyLoss("binary", alpha=alpha, beta=1 - alpha, smooth=0.5)
    for image, loss in enumerate(tversky(logits, masks, alpha)):
        torch.testing.assert_close(loss, oracle(logits[image : image + 1], masks[image]))


def test_tversky_of_alpha_one_half_is_dice() -> None:
    logits, masks = draw()
    torch.testing.assert_close(tversky(logits, masks, 0.5), dice(logits, masks))


def test_a_high_alpha_punishes_false_positives_and_a_low_one_misses() -> None:
    half = torch.cat([fill(1.0)[..., :4], fill(0.0)[..., 4:]], dim=-1)
    too_much, too_little = fill(100.0), fill(-100.0)
    assert tversky(too_much, half, 0.9) > tversky(too_much, half, 0.1)
    assert tversky(too_little, half, 0.9) < tversky(too_little, half, 0.1)


def test_jaccard_is_the_librarys_of_each_image() -> None:
    logits, masks = draw()
    # Without a lesion the library's loss is 0, whatever is predicted.
    oracle = smp.losses.JaccardLoss("binary", smooth=1.0)
    for image, loss in enumerate(jaccard(logits, masks)):
        torch.testing.assert_close(loss, oracle(logits[image : image + 1], masks[image]))


def test_lovasz_is_the_librarys_of_each_image() -> None:
    logits, masks = draw()
    masks[0], masks[1] = 0, 1
    oracle = smp.losses.LovaszLoss("binary", per_image=True)
    for image, loss in enumerate(lovasz(logits, masks)):
        torch.testing.assert_close(loss, oracle(logits[image], masks[image]))


def test_lovasz_of_hard_answers_is_the_jaccard_loss_of_what_they_get_wrong() -> None:
    _, masks = draw()
    answers = torch.rand(masks.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    overlap = (answers & (masks > 0)).flatten(1).sum(1)
    union = (answers | (masks > 0)).flatten(1).sum(1)
    # Errors of the hinge are 0 where an answer of -1 or 1 is right and 2 where it is wrong.
    torch.testing.assert_close(lovasz(2.0 * answers - 1, masks), 2 * (1 - overlap / union))


def test_losses_are_summed_by_their_weights() -> None:
    logits, masks = draw()
    config = LossConfig(bce=0.5, dice=2.0, batch_dice=0.25)
    expected = 0.5 * bce(logits, masks) + 2 * dice(logits, masks) + 0.25 * batch_dice(logits, masks)
    torch.testing.assert_close(compute_loss(logits, masks, config), expected)


def test_every_weight_has_its_loss() -> None:
    parameters = {"focal_gamma", "tversky_alpha"}
    assert {*LOSSES} == {field.name for field in fields(LossConfig)} - parameters


def test_parameters_reach_their_losses() -> None:
    logits, masks = draw()
    weights = {"bce": 0.0, "dice": 0.0, "focal": 1.0, "tversky": 1.0}
    config = LossConfig(**weights, focal_gamma=3.0, tversky_alpha=0.8)
    expected = focal(logits, masks, 3.0) + tversky(logits, masks, 0.8)
    torch.testing.assert_close(compute_loss(logits, masks, config), expected)


def test_each_level_of_deep_supervision_counts_half_as_much_as_the_finer_one() -> None:
    levels, masks = [draw()[0] + shift for shift in (0.0, 1.0, 2.0)], draw()[1]
    config = LossConfig(bce=0.5, dice=2.0)
    fine, middle, coarse = (compute_loss(level, masks, config) for level in levels)
    found = compute_loss(tuple(levels), masks, config)
    torch.testing.assert_close(found, (4 * fine + 2 * middle + coarse) / 7)


def test_a_loss_of_weight_zero_is_left_out() -> None:
    logits, masks = draw()
    logits[0] = math.inf
    assert bce(logits, masks)[0].isnan()
    assert compute_loss(logits, masks, LossConfig(bce=0.0)).isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_computed_in_float32_under_autocast(name: str) -> None:
    logits, masks = draw(size=64)
    rounded = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](rounded, masks)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, LOSSES[name](rounded.float(), masks), rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    logits, masks = draw()
    logits.requires_grad_()
    step = 1e-2 * torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    LOSSES[name](logits, masks).sum().backward()
    assert logits.grad is not None
    with torch.no_grad():
        ahead, behind = (LOSSES[name](logits + sign * step, masks).sum() for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2, (logits.grad * step).sum(), rtol=1e-2, atol=0)


def one_pixel() -> Tensor:
    mask = fill(0.0)
    mask[..., 3, 5] = 1
    return mask


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "mask", [fill(0.0), fill(1.0), one_pixel()], ids=["empty", "full", "one pixel"]
)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_finite(name: str, mask: Tensor, size: float) -> None:
    loss = build_losses(LossConfig(focal_gamma=0.5))[name]
    logits = (size * draw(num_images=1)[0]).requires_grad_()
    (value := loss(logits, mask)).sum().backward()
    assert value.shape == (1,)
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
