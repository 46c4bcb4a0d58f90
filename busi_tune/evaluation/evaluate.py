"""A trained network's predictions as a row per image, in the image's own pixels.

Probabilities are resized to the image's own size, rounded to 8 bits and then thresholded, so that
the saved maps give exactly the counts of the table.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.micro_batches import MicroBatches
from busi_tune.data.parallel import Progress, count
from busi_tune.data.resizing import Box
from busi_tune.evaluation.calibration import LOGITS, Histogram, count_logits
from busi_tune.evaluation.counts import COUNTS, METRICS, compute_metrics, count_pixels
from busi_tune.evaluation.levels import is_lesion, quantise, threshold_level, write_png
from busi_tune.evaluation.operating_point import (
    THRESHOLDS,
    Levels,
    Mask,
    OperatingPoint,
    choose_operating_point,
    counts_at,
    counts_by_threshold,
    counts_everywhere,
    pick,
)
from busi_tune.evaluation.shape import irregularity
from busi_tune.evaluation.surface import SURFACE_SCORES, surface_scores

Row = dict[str, object]

IDENTITY = ("image", "label", "group")
DICE_COLUMNS = tuple(f"dice_{threshold:.2f}" for threshold in THRESHOLDS)


@dataclass(frozen=True)
class Evaluation:
    """What a network made of some images."""

    images: pd.DataFrame
    """A row per image: image, label, group, height, width, counts and metrics in original pixels,
    counts at training size (`_resized`), HD95, NSD, the true mask's irregularity, counts against
    the first mask file alone (`_first`) and at the operating point (`_tuned`)."""
    thresholds: pd.DataFrame
    """A row per image: Dice at each of `THRESHOLDS`, all components kept."""
    logits: pd.DataFrame
    """A row for each of `LOGITS`: pixels of all images, of those with a lesion, and of lesions."""
    point: OperatingPoint
    """The operating point of the columns that end in `_tuned`."""
    milliseconds_per_image: float
    """Time of the forward passes alone, over the images of a batch."""


def evaluate(
    model: nn.Module,
    images: ImageSet,
    device_images: DeviceImages,
    indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    threshold: float,
    batch_size: int,
    point: OperatingPoint | None = None,
    predictions: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a network on some images.

    Args:
        model: network of logits (B, 1, S, S); left in the mode in which it came.
        images, device_images: the set, decoded and on the network's device.
        indices: positions in the set; the rows come in their order.
        threshold: probability from which a pixel is lesion.
        batch_size: images per forward pass.
        point: operating point of the tuned counts; None chooses it on these images, at least one.
        predictions: folder for the maps, `<image>.png` with round(255 p); None saves nothing.
        progress: called before the first image and after each.

    Raises:
        torch.OutOfMemoryError: a single image does not fit; larger batches are split.
    """
    rows: list[Row] = []
    tuned, by_threshold, by_logit = [], [], []
    seconds: list[float] = []
    predicted = _predict(model, device_images, indices, batch_size, threshold, seconds)
    for index, probability, resized in count(predicted, len(indices), progress):
        truth = images.original_mask(index)
        full = original_probabilities(probability, images.box(index), truth.shape)
        levels = quantise(full).cpu().numpy()
        if predictions is not None:
            write_png(predictions / f"{images.names[index]}.png", levels)
        row = _score(levels, truth, images.first_mask(index), threshold)
        rows.append(_describe(images, index) | row | _named(resized, "_resized"))
        by_threshold.append(counts_by_threshold(levels, truth))
        by_logit.append(count_logits(full, truth))
        tuned.append(counts_at(levels, truth, point) if point else counts_everywhere(levels, truth))
    if point is None:
        everywhere = np.stack(tuned)
        point = choose_operating_point(everywhere)
        tuned = list(pick(everywhere, point))
    return Evaluation(
        _image_table(rows, tuned),
        _threshold_table(rows, by_threshold),
        _logit_table(by_logit),
        point,
        milliseconds_per_image=1000 * sum(seconds) / max(1, len(rows)),
    )


def _predict(
    model: nn.Module,
    device_images: DeviceImages,
    indices: Sequence[int] | npt.NDArray[np.int64],
    batch_size: int,
    threshold: float,
    seconds: list[float],
) -> Iterator[tuple[int, Tensor, list[int]]]:
    """Give each image's position, probabilities (1, S, S) and counts at training size.

    Each forward pass adds its time to `seconds`.
    """
    was_training = model.training
    model.eval()
    positions = torch.as_tensor(np.asarray(indices, dtype=np.int64))
    parts = MicroBatches("evaluation")

    def run(batch: Tensor) -> list[_Pass]:
        return [_run(model, device_images, part, threshold) for part in parts.split(batch)]

    for start in range(0, len(positions), batch_size):
        batch = positions[start : start + batch_size]
        passes = parts.run(partial(run, batch), len(batch))
        seconds += [done.seconds for done in passes]
        probabilities = [image for done in passes for image in done.probabilities]
        counts = [image for done in passes for image in done.counts]
        yield from zip(batch.tolist(), probabilities, counts, strict=True)
    model.train(was_training)


@dataclass(frozen=True)
class _Pass:
    """A forward pass."""

    probabilities: Tensor
    counts: list[list[int]]
    seconds: float


def _run(model: nn.Module, device_images: DeviceImages, indices: Tensor, threshold: float) -> _Pass:
    inputs, masks = device_images.gather(indices)
    began = _now(inputs.device)
    with torch.inference_mode():
        logits = model(inputs)
        seconds = _now(inputs.device) - began
        probabilities = torch.sigmoid(logits.float())
    counts = count_pixels(is_lesion(quantise(probabilities), threshold), masks).tolist()
    return _Pass(probabilities, counts, seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def original_probabilities(probability: Tensor, box: Box, size: tuple[int, ...]) -> Tensor:
    """Bring probabilities of a square to the image's own size.

    Args:
        probability: in [0, 1], (1, S, S).
        box: where in the square the image lies.
        size: the image's height and width.

    Returns:
        Probabilities (H, W), on their device.
    """
    inside = probability[:, box[0], box[1]]
    # Bilinear weights sum to 1 only up to rounding; the clamp keeps 255 from wrapping to 0.
    return interpolate(inside[None], size=size, mode="bilinear").clamp(0, 1)[0, 0]


def original_levels(probability: Tensor, box: Box, size: tuple[int, ...]) -> Levels:
    """Bring probabilities to the image's own size, as above, and round them to grey levels."""
    levels: Levels = quantise(original_probabilities(probability, box, size)).cpu().numpy()
    return levels


def _describe(images: ImageSet, index: int) -> Row:
    height, width = (int(side) for side in images.sizes[index])
    row: Row = {name: getattr(images, f"{name}s")[index] for name in ("label", "group")}
    return {"image": images.names[index], **row, "height": height, "width": width}


def _score(levels: Levels, truth: Mask, first: Mask, threshold: float) -> Row:
    """Score a map in original pixels against the union of masks, and count against the first."""
    lesion = levels >= threshold_level(threshold)
    row: Row = {"irregularity": irregularity(truth), **surface_scores(lesion, truth)}
    for ending, mask in (("", truth), ("_first", first)):
        pair = (torch.from_numpy(side)[None, None] for side in (lesion, mask))
        row |= _named(count_pixels(*pair)[0].tolist(), ending)
    return row


def _named(counts: Sequence[int], ending: str = "") -> Row:
    return {f"{name}{ending}": count for name, count in zip(COUNTS, counts, strict=True)}


def _image_table(rows: Sequence[Row], tuned: Sequence[npt.NDArray[np.int64]]) -> pd.DataFrame:
    columns = [*IDENTITY, "height", "width", *COUNTS]
    resized, first, at_point = (
        [f"{name}_{ending}" for name in COUNTS] for ending in ("resized", "first", "tuned")
    )
    full = [
        row | _named(counts.tolist(), "_tuned") for row, counts in zip(rows, tuned, strict=True)
    ]
    further = [*resized, *SURFACE_SCORES, "irregularity", *first, *at_point]
    table = pd.DataFrame(full, columns=[*columns, *further])
    metrics = compute_metrics(table[list(COUNTS)].to_numpy())
    return table.assign(**metrics)[[*columns, *METRICS, *further]]


def _threshold_table(
    rows: Sequence[Row], by_threshold: Sequence[npt.NDArray[np.int64]]
) -> pd.DataFrame:
    counts = np.array(by_threshold).reshape(-1, 4)
    dice = compute_metrics(counts)["dice"].reshape(len(rows), len(THRESHOLDS))
    table = pd.DataFrame(rows, columns=list(IDENTITY))
    return table.assign(**dict(zip(DICE_COLUMNS, dice.T, strict=True)))


def _logit_table(by_logit: Sequence[Histogram]) -> pd.DataFrame:
    counts = np.array(by_logit, dtype=np.int64).reshape(-1, len(LOGITS), 2)
    has_lesion = counts[..., 1].any(axis=1)
    table = {
        "logit": LOGITS,
        "pixels": counts.sum(axis=(0, 2)),
        "pixels_tumour": counts[has_lesion].sum(axis=(0, 2)),
        "lesion_pixels": counts[..., 1].sum(axis=0),
    }
    return pd.DataFrame(table)
