"""Counts of pixels per image, and the ratios that are made of them.

The rule for empty masks: empty against empty scores 1, a one-sided empty mask scores 0. It holds
for every ratio; specificity is the recall of the background, so for it the background counts.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

COUNTS = ("tp", "fp", "fn", "tn")
METRICS = ("dice", "iou", "pixel_f1", "precision", "recall", "specificity")


def count_pixels(predicted: "Tensor", truth: "Tensor") -> "Tensor":
    """Count true and false positives and negatives per image.

    Args:
        predicted: binary masks (B, 1, H, W), bool or 0 and 1 in any dtype.
        truth: masks of the same shape.

    Returns:
        (B, 4) int64 on the masks' device: tp, fp, fn, tn.
    """
    # Tables are made from saved counts alone and should not wait for torch to load.
    import torch
    from segmentation_models_pytorch.metrics import get_stats

    # As bytes the sums are exact int64 and need an eighth of the memory that long masks would.
    flat = (mask.to(torch.uint8).reshape(len(mask), 1, -1) for mask in (predicted, truth))
    return torch.cat(get_stats(*flat, mode="binary"), dim=1)


def compute_metrics(counts: Counts) -> dict[str, Floats]:
    """Compute the ratios of every image.

    Dice and pixel F1 of one image are the same number; both names are kept because the report's
    batch averages tell them apart (see `batch_averaged`).

    Args:
        counts: (N, 4) tp, fp, fn, tn.

    Returns:
        For each name in `METRICS` the values (N,), all in [0, 1].
    """
    tp, fp, fn, tn = np.asarray(counts, dtype=np.float64).reshape(-1, 4).T
    no_lesion = tp + fp + fn == 0
    no_background = tn + fp + fn == 0
    dice = _ratio(2 * tp, 2 * tp + fp + fn, no_lesion)
    return {
        "dice": dice,
        "iou": _ratio(tp, tp + fp + fn, no_lesion),
        "pixel_f1": dice.copy(),
        "precision": _ratio(tp, tp + fp, no_lesion),
        "recall": _ratio(tp, tp + fn, no_lesion),
        "specificity": _ratio(tn, tn + fp, no_background),
    }


def batch_averaged(counts: Counts, batch_size: int = 32) -> dict[str, float]:
    """Compute pixel F1, IoU and Dice as the report did: pooled per batch, then averaged.

    Its empty-mask convention: a batch without lesion in prediction and truth has F1 0, and IoU and
    Dice 1. A last, smaller batch weighs as much as the others.

    Args:
        counts: (N, 4) tp, fp, fn, tn in the order of evaluation, N at least 1.
        batch_size: images per batch; the report used 32.
    """
    starts = np.arange(0, len(counts), batch_size)
    pooled = np.add.reduceat(np.asarray(counts, dtype=np.int64), starts, axis=0)
    metrics = compute_metrics(pooled)
    no_lesion = pooled[:, :3].sum(axis=1) == 0
    return {
        "pixel_f1": float(np.where(no_lesion, 0.0, metrics["pixel_f1"]).mean()),
        "iou": float(metrics["iou"].mean()),
        "dice": float(metrics["dice"].mean()),
    }


def _ratio(numerator: Floats, denominator: Floats, both_empty: npt.NDArray[np.bool_]) -> Floats:
    undefined = denominator == 0
    return np.where(undefined, both_empty, numerator / np.where(undefined, 1.0, denominator))
