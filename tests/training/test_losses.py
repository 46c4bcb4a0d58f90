import math

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional

from busi_tune.config import LossConfig
from busi_tune.training.losses import LOSSES, batch_dice, bce, compute_loss, dice


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


def test_losses_are_summed_by_their_weights() -> None:
    logits, masks = draw()
    config = LossConfig(bce=0.5, dice=2.0, batch_dice=0.25)
    expected = 0.5 * bce(logits, masks) + 2 * dice(logits, masks) + 0.25 * batch_dice(logits, masks)
    torch.testing.assert_close(compute_loss(logits, masks, config), expected)


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
    step = 1e-2 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    LOSSES[name](logits, masks).sum().backward()
    assert logits.grad is not None
    with torch.no_grad():
        ahead, behind = (LOSSES[name](logits + sign * step, masks).sum() for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2, (logits.grad * step).sum(), rtol=1e-2, atol=0)
