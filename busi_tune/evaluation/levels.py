"""Probabilities as the grey levels of an 8-bit image, its file and their threshold."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from busi_tune.run_directory import write_atomic

if TYPE_CHECKING:
    from torch import Tensor


def quantise(probabilities: "Tensor") -> "Tensor":
    """Round probabilities in [0, 1] to the grey levels 0 to 255 of an 8-bit image."""
    # Figures need the threshold alone and should not wait for torch to load.
    import torch

    return (probabilities * 255).round().to(torch.uint8)


def threshold_level(threshold: float) -> int:
    """Return the lowest grey level that is lesion.

    At 0.5 it is 128, and `level >= 128` is exactly `p >= 0.5`, since 127.5 rounds to the even 128.
    Other thresholds are met to half a level, 0.002. Level 0 is never lesion.
    """
    return max(1, round(255 * threshold))


def is_lesion(levels: "Tensor", threshold: float) -> "Tensor":
    """Threshold a map of grey levels; bool of the same shape."""
    return levels >= threshold_level(threshold)


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write an image, so that it appears whole or not at all."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    write_atomic(path, content.getvalue())
