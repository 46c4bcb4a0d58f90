"""The shape of a lesion's mask."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from busi_tune.evaluation.surface import find_boundary


def irregularity(mask: npt.NDArray[np.bool_]) -> float:
    """Compute 1 - solidity: the share of a mask's convex hull that is not of the mask.

    The hull is that of the pixel centres, its area the number of centres in it (Pick's theorem),
    so a pixel, a line and any other digitally convex mask have exactly 0. Several lesions share
    one hull.

    Args:
        mask: (H, W), True in the lesions.

    Returns:
        At least 0 and below 1; not a number for an empty mask.
    """
    outline = np.argwhere(find_boundary(mask))
    if not len(outline):
        return math.nan
    hull = cv2.convexHull(outline.astype(np.int32))[:, 0].astype(np.int64)
    steps = np.roll(hull, -1, axis=0) - hull
    on_outline = int(np.gcd(steps[:, 0], steps[:, 1]).sum())
    twice_area = abs(int((hull[:, 0] * steps[:, 1] - hull[:, 1] * steps[:, 0]).sum()))
    inside_or_on = (twice_area + on_outline) // 2 + 1
    return 1 - int(mask.sum()) / inside_or_on
