"""Losses from logits (B, 1, H, W) and masks of 0 and 1 (B, 1, H, W), a value per image (B,).

All are computed in float32, also where the network ran under autocast.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from busi_tune.config import LossConfig

SMOOTHING = 1.0


def bce(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy with logits, mean over an image's pixels."""
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), masks.float(), reduction="none"
    )
    return losses.flatten(1).mean(1)


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft Dice loss of each image, in [0, 1]: 1 - (2 p.m + 1) / (sum p + sum m + 1).

    With the smoothing inside the fraction, an empty mask costs 0 only where nothing is
    predicted, so false positives are punished there too.
    """
    overlap, total = _overlap_and_total(logits, masks)
    return 1 - (2 * overlap + SMOOTHING) / (total + SMOOTHING)


def batch_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of the report, pooled over the batch: 1 - 2 (p.m + 1) / (sum p + sum m + 1).

    The smoothing lies outside the factor 2, so the loss falls to -1 on empty masks. Kept to
    reproduce the report; every image carries the batch's value.
    """
    overlap, total = (pixels.sum() for pixels in _overlap_and_total(logits, masks))
    return (1 - 2 * (overlap + SMOOTHING) / (total + SMOOTHING)).expand(len(logits))


def _overlap_and_total(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    probabilities = logits.float().sigmoid().flatten(1)
    masks = masks.float().flatten(1)
    return (probabilities * masks).sum(1), (probabilities + masks).sum(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": bce,
    "dice": dice,
    "batch_dice": batch_dice,
}


def compute_loss(logits: Tensor, masks: Tensor, config: LossConfig) -> Tensor:
    """Sum the losses by their weights, not all 0: (B,), to be averaged over images."""
    weights = {name: getattr(config, name) for name in LOSSES}
    terms = [weights[name] * LOSSES[name](logits, masks) for name in LOSSES if weights[name]]
    return torch.stack(terms).sum(0)
