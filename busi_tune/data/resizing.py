"""How an image becomes the square that a network sees, and where in it the image lies."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[slice, slice]
"""Rows and columns of a square that are covered by the image; the others are black."""


def find_box(height: int, width: int, square: int, resize: str) -> Box:
    """Return where an image lies in its square.

    Args:
        height, width: of the image, pixels.
        square: side of the square.
        resize: stretch fills the square; letterbox keeps the proportions, in the middle.
    """
    if resize == "stretch":
        return slice(0, square), slice(0, square)
    longer = max(height, width)
    rows, columns = (max(1, round(side * square / longer)) for side in (height, width))
    top, left = (square - rows) // 2, (square - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def make_square(grey: npt.NDArray[np.uint8], square: int, resize: str) -> npt.NDArray[np.uint8]:
    """Bring a grey image (H, W) to its square (S, S), resized bilinearly with averaging."""
    height, width = grey.shape
    rows, columns = box = find_box(height, width, square, resize)
    size = columns.stop - columns.start, rows.stop - rows.start
    full = np.zeros((square, square), dtype=np.uint8)
    full[box] = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
    return full
