"""Losses from logits (B, 1, H, W) and masks of 0 and 1 (B, 1, H, W), a value per image (B,).

All are computed in float32, also where the network ran under autocast, and all make a lesion that
is seen in an image without one cost more than none, so that every sum of them does.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from busi_tune.config import LossConfig
from busi_tune.training.boundary import boundary
from busi_tune.training.lovasz import lovasz

SMOOTHING = 1.0

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy with logits, mean over an image's pixels."""
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), masks.float(), reduction="none"
    )
    return losses.flatten(1).mean(1)


def focal(logits: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """Focal loss, mean over an image's pixels: (1 - q)^gamma times the cross-entropy, -log q.

    q is the probability of what a pixel is; no weights of classes. Lin et al., "Focal Loss for
    Dense Object Detection", ICCV 2017.
    """
    margins = logits.float() * (2 * masks.float() - 1)
    # The power of a probability of 0 has no gradient where gamma is below 1; its logarithm has.
    log_wrong, log_right = functional.logsigmoid(-margins), functional.logsigmoid(margins)
    return ((gamma * log_wrong).exp() * -log_right).flatten(1).mean(1)


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


def tversky(logits: Tensor, masks: Tensor, alpha: float) -> Tensor:
    """Tversky loss of each image: 1 - (2 TP + 1) / (2 TP + 2 alpha FP + 2 (1 - alpha) FN + 1).

    TP is p.m, FP p.(1 - m), FN (1 - p).m; at alpha 0.5 it is the Dice loss. Salehi, Erdogmus,
    Gholipour, "Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
    Networks", MLMI 2017.
    """
    overlap, total = _overlap_and_total(logits, masks)
    lesion = masks.float().flatten(1).sum(1)
    wrong = alpha * (total - lesion - overlap) + (1 - alpha) * (lesion - overlap)
    return 1 - (2 * overlap + SMOOTHING) / (2 * overlap + 2 * wrong + SMOOTHING)


def jaccard(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft Jaccard loss of each image: 1 - (p.m + 1) / (sum p + sum m - p.m + 1)."""
    overlap, total = _overlap_and_total(logits, masks)
    return 1 - (overlap + SMOOTHING) / (total - overlap + SMOOTHING)


def _overlap_and_total(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    probabilities = logits.float().sigmoid().flatten(1)
    masks = masks.float().flatten(1)
    return (probabilities * masks).sum(1), (probabilities + masks).sum(1)


def build_losses(config: LossConfig) -> dict[str, Loss]:
    """Return every loss by the name of its weight, its own parameters as configured."""
    return {
        "bce": bce,
        "dice": dice,
        "batch_dice": batch_dice,
        "focal": partial(focal, gamma=config.focal_gamma),
        "tversky": partial(tversky, alpha=config.tversky_alpha),
        "jaccard": jaccard,
        "lovasz": lovasz,
        "boundary": boundary,
    }


def compute_loss(outputs: Tensor | tuple[Tensor, ...], masks: Tensor, config: LossConfig) -> Tensor:
    """Sum the losses by their weights, not all 0: (B,), to be averaged over images.

    Args:
        outputs: logits (B, 1, H, W), or those of several levels, finest first: each counts half as
            much as the one before, all together 1.
        masks: (B, 1, H, W) of 0 and 1.
        config: the weights.
    """
    levels = outputs if isinstance(outputs, tuple) else (outputs,)
    parts = [0.5**level for level in range(len(levels))]
    terms = [
        weight * part / sum(parts) * loss(logits, masks)
        for name, loss in build_losses(config).items()
        if (weight := getattr(config, name))
        for part, logits in zip(parts, levels, strict=True)
    ]
    return torch.stack(terms).sum(0)
