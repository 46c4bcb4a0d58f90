"""What is written of a predicted image: mask, probabilities, the outline on the image, a row."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from busi_tune.evaluation.levels import write_png
from busi_tune.evaluation.operating_point import Levels, Mask

COLUMNS = (
    "image", "height", "width", "lesion_px", "lesion_share", "num_components", "max_probability",
    "agreement", "warning",
)  # fmt: skip
DISAGREEMENT = 0.7
"""Agreement below which a row is warned of."""
WARNING = "networks disagree"


def describe_image(
    name: str, levels: Levels, lesion: Mask, members: Sequence[Mask]
) -> dict[str, object]:
    """Return the image's row of predictions.csv.

    Args:
        name: of the image.
        levels: the averaged map (H, W).
        lesion: the averaged mask (H, W).
        members: the mask of each network by itself.
    """
    agreement = compute_agreement(members)
    disagree = agreement is not None and agreement < DISAGREEMENT
    values = (
        name, *lesion.shape, int(lesion.sum()), round(float(lesion.mean()), 6),
        count_components(lesion), round(int(levels.max()) / 255, 4),
        None if agreement is None else round(agreement, 4), WARNING if disagree else "",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def count_components(lesion: Mask) -> int:
    """Count the parts of a mask (H, W) that do not touch at sides or corners."""
    return int(cv2.connectedComponents(lesion.view(np.uint8))[0]) - 1


def compute_agreement(masks: Sequence[Mask]) -> float | None:
    """Average the Dice of each pair of masks (H, W), two empty ones 1; None for a single mask."""
    if len(masks) < 2:
        return None
    return float(np.mean([_dice(first, second) for first, second in combinations(masks, 2)]))


def _dice(first: Mask, second: Mask) -> float:
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0


def write_image(
    out: Path,
    name: str,
    grey: npt.NDArray[np.uint8],
    levels: Levels,
    lesion: Mask,
    truth: Mask | None,
) -> None:
    """Write `masks/`, `probabilities/` and `overlays/<name>.png`, each whole or not at all."""
    write_png(out / "probabilities" / f"{name}.png", levels)
    write_png(out / "masks" / f"{name}.png", lesion.astype(np.uint8) * 255)
    write_png(out / "overlays" / f"{name}.png", draw_overlay(grey, lesion, truth))


def draw_overlay(
    grey: npt.NDArray[np.uint8], lesion: Mask, truth: Mask | None
) -> npt.NDArray[np.uint8]:
    """Draw the outline of the lesion, over that of the truth, on the image; uint8 (H, W, 3).

    Where there is a truth, that of the lesion is dashed, so that they differ in grey print.
    """
    from busi_tune.results.figures.style import PREDICTION, TRUTH  # loads matplotlib

    canvas = np.repeat(grey[..., None], 3, axis=2)
    thickness = max(1, round(min(grey.shape) / 250))
    for mask, colour in ((truth, TRUTH), (lesion, PREDICTION)):
        if mask is not None:
            outlines, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
            )
            closed = truth is None or colour == TRUTH
            drawn = outlines if closed else _dash(outlines, thickness)
            cv2.polylines(canvas, drawn, closed, ImageColor.getrgb(colour), thickness)
    return canvas


def _dash(outlines: Sequence[npt.NDArray[Any]], thickness: int) -> list[npt.NDArray[Any]]:
    """Cut outlines into dashes, with gaps in which one sees what lies below."""
    dash, period = 4 + 3 * thickness, 8 + 6 * thickness
    # Points come twice, since a single one is no line.
    return [
        outline[start : start + dash].repeat(2, axis=0)
        for outline in outlines
        for start in range(0, len(outline), period)
    ]
