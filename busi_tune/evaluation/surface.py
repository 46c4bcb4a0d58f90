"""Distances between the outlines of two masks, in pixels of the original image.

A mask's boundary is those of its pixels that have a 4-neighbour outside the mask; what lies beyond
the image's edge counts as outside. Distances are Euclidean, between pixel centres. HD95 is the
larger of the two directed 95th percentiles (linear interpolation), the definition of MONAI's
`compute_hausdorff_distance(percentile=95)`. NSD is the share of both boundaries together that
lies within a tolerance of the other one, the normalised surface distance of Nikolov et al. 2018
(arXiv 1809.04430) counted in boundary pixels, as MONAI's `compute_surface_dice`.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

TOLERANCE_PX = 2.0
SURFACE_SCORES = ("hd95", "nsd")
DEFINITION = (
    f"HD95 and NSD at {TOLERANCE_PX:g} pixels, in original pixels (BUSI states no spacing): the "
    "boundary is the mask's pixels with a 4-neighbour outside it, distances are Euclidean between "
    "pixel centres; HD95 is the larger of the two directed 95th percentiles, NSD the share of "
    "both boundaries within the tolerance, as MONAI defines them. Both masks empty: 0 and 1; one "
    "of them empty: the image's diagonal and 0."
)


def surface_scores(predicted: Mask, truth: Mask) -> dict[str, float]:
    """Compute HD95 and NSD of an image.

    Args:
        predicted: mask (H, W).
        truth: mask of the same shape.

    Returns:
        `hd95` in pixels and `nsd` in [0, 1]. Two empty masks have 0 and 1, a one-sided empty mask
        the image's diagonal and 0.
    """
    height, width = truth.shape
    distances = boundary_distances(predicted, truth)
    if distances is None:
        agree = not predicted.any() and not truth.any()
        return {"hd95": 0.0 if agree else math.hypot(height, width), "nsd": float(agree)}
    near = sum(int((directed <= TOLERANCE_PX).sum()) for directed in distances)
    return {
        "hd95": float(max(np.percentile(directed, 95) for directed in distances)),
        "nsd": near / sum(len(directed) for directed in distances),
    }


def boundary_distances(first: Mask, second: Mask) -> tuple[Floats, Floats] | None:
    """Measure how far each boundary pixel of a mask is from the other mask's boundary.

    Args:
        first: mask (H, W).
        second: mask of the same shape.

    Returns:
        Pixels, from the first to the second and back; None where a mask is empty.
    """
    assert first.shape == second.shape
    if not first.any() or not second.any():
        return None
    # A box around both: erosion sees its edge as it sees the image's, as outside.
    rows, columns = (np.flatnonzero((first | second).any(axis=axis)) for axis in (1, 0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    outlines = [np.argwhere(find_boundary(mask[box])) for mask in (first, second)]
    # Building them balanced costs more than it saves on outlines.
    trees = [cKDTree(outline, balanced_tree=False, compact_nodes=False) for outline in outlines]
    return trees[1].query(outlines[0])[0], trees[0].query(outlines[1])[0]


def find_boundary(mask: Mask) -> Mask:
    """Mark the pixels of a mask (H, W) that have a 4-neighbour outside it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside
