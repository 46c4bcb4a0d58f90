"""Images small enough for a page, and masks as outlines that its reader's browser draws on them."""

import base64
import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

LONG_SIDE = 256
"""Pixels of a picture's longer side; outlines are in the same pixels."""
QUALITY = 45
"""Of WebP: some 7 kB a picture, since speckle hardly compresses."""
_TOLERANCE = 0.4  # of the outlines, pixels of the picture

Mask = npt.NDArray[np.bool_]


def picture_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width at which an image of these original pixels is shown."""
    scale = min(1.0, LONG_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def encode_picture(image: npt.NDArray[np.uint8], height: int, width: int) -> str:
    """Bring a grey image (H, W) to the size at which it is shown and encode it.

    Args:
        image: the picture, stretched or not.
        height, width: of the original, which gives the proportions.

    Returns:
        WebP in base64.
    """
    rows, columns = picture_size(height, width)
    content = io.BytesIO()
    shown = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
    shown.save(content, format="webp", quality=QUALITY, method=4)
    return base64.b64encode(content.getvalue()).decode()


def trace_outline(mask: Mask) -> str:
    """Trace the border of every component and hole of a mask as the path of an SVG.

    Args:
        mask: (H, W) in original pixels.

    Returns:
        Closed polygons in pixels of the picture, to be filled by the even-odd rule, so that two
        outlines in one path leave the pixels in which they differ; empty for an empty mask.
    """
    height, width = mask.shape
    rows, columns = picture_size(height, width)
    # Each pixel as 2 x 2, so that borders run along the pixels' edges, not through their centres.
    doubled = cv2.resize(mask.view(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    borders, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([columns / width, rows / height])
    paths = []
    for border in borders:
        points = (border[:, 0] + 0.5) / 2 * scale
        kept = cv2.approxPolyDP(points.astype(np.float32), _TOLERANCE, closed=True)[:, 0]
        paths.append("M" + " ".join(f"{x:.0f} {y:.0f}" for x, y in kept) + "Z")
    return "".join(paths)
