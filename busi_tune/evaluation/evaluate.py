"""A trained network's predictions as a row per image, in the image's own pixels.

Probabilities are resized to the image's own size, rounded to 8 bits and then thresholded, so that
the saved maps give exactly the counts of the table.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.evaluation.counts import COUNTS, METRICS, compute_metrics, count_pixels

Row = dict[str, object]


def evaluate(
    model: nn.Module,
    images: ImageSet,
    device_images: DeviceImages,
    indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    threshold: float,
    batch_size: int,
    predictions: Path | None = None,
) -> pd.DataFrame:
    """Evaluate a network on some images.

    Args:
        model: network of logits (B, 1, S, S); left in the mode in which it came.
        images, device_images: the set, decoded and on the network's device.
        indices: positions in the set.
        threshold: probability from which a pixel is lesion.
        batch_size: images per forward pass.
        predictions: folder for the maps, `<image>.png` with round(255 p); None saves nothing.

    Returns:
        A row per image in the order of `indices`: image, label, group, height, width, counts and
        metrics in original pixels, and the counts at training size with the ending `_resized`.
    """
    was_training = model.training
    model.eval()
    rows: list[Row] = []
    positions = torch.as_tensor(np.asarray(indices, dtype=np.int64))
    for start in range(0, len(positions), batch_size):
        batch = positions[start : start + batch_size]
        inputs, masks = device_images.gather(batch)
        with torch.inference_mode():
            probabilities = torch.sigmoid(model(inputs).float())
        resized = count_pixels(is_lesion(quantise(probabilities), threshold), masks).tolist()
        for index, probability, counts in zip(batch.tolist(), probabilities, resized, strict=True):
            row = _evaluate_image(images, index, probability, threshold, predictions)
            rows.append(row | _named(counts, "_resized"))
    model.train(was_training)
    return _with_metrics(rows)


def quantise(probabilities: Tensor) -> Tensor:
    """Round probabilities in [0, 1] to the grey levels 0 to 255 of an 8-bit image."""
    return (probabilities * 255).round().to(torch.uint8)


def threshold_level(threshold: float) -> int:
    """Return the lowest grey level that is lesion.

    At 0.5 it is 128, and `level >= 128` is exactly `p >= 0.5`, since 127.5 rounds to the even 128.
    Other thresholds are met to half a level, 0.002. Level 0 is never lesion.
    """
    return max(1, round(255 * threshold))


def is_lesion(levels: Tensor, threshold: float) -> Tensor:
    """Threshold a map of grey levels; bool of the same shape."""
    return levels >= threshold_level(threshold)


def _evaluate_image(
    images: ImageSet, index: int, probability: Tensor, threshold: float, folder: Path | None
) -> Row:
    height, width = (int(side) for side in images.sizes[index])
    # Bilinear weights sum to 1 only up to rounding; the clamp keeps 255 from wrapping to 0.
    full = interpolate(probability[None], size=(height, width), mode="bilinear").clamp(0, 1)
    levels = quantise(full)
    truth = torch.from_numpy(images.original_mask(index)).to(levels.device)
    counts = count_pixels(is_lesion(levels, threshold), truth[None, None])[0].tolist()
    name = images.names[index]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels[0, 0].cpu().numpy()).save(folder / f"{name}.png")
    row: Row = {"image": name, "label": images.labels[index], "group": images.groups[index]}
    return row | {"height": height, "width": width} | _named(counts)


def _named(counts: Sequence[int], ending: str = "") -> Row:
    return {f"{name}{ending}": count for name, count in zip(COUNTS, counts, strict=True)}


def _with_metrics(rows: Sequence[Row]) -> pd.DataFrame:
    columns = ["image", "label", "group", "height", "width", *COUNTS]
    resized = [f"{name}_resized" for name in COUNTS]
    table = pd.DataFrame(rows, columns=[*columns, *resized])
    metrics = compute_metrics(table[list(COUNTS)].to_numpy())
    return table.assign(**metrics)[[*columns, *METRICS, *resized]]
