"""Are two images the same scan: local features under a geometric model, then correlation.

Local features (SIFT, Lowe 2004; compared as RootSIFT, Arandjelovic and Zisserman 2012) that agree
on one similarity say where one image lies in the other; the correlation of the aligned structure
over all the tissue that both show says whether it is the same. Text, calipers and borders that two
scans share may give a wrong alignment, but no correlation.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from busi_tune.data.thumbnails import Structure

NUM_FEATURES = 200
SMALLEST_FEATURE_PX = 4.0
BORDER_PX = 4
RATIO = 0.9
"""A match must be this much nearer than the second nearest feature."""
REPROJECTION_PX = 5.0
MIN_INLIERS = 5
MIN_OVERLAP = 0.25
"""Share of the smaller image's tissue that the other must show."""
REFINEMENT = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
REFINEMENT_BLUR_PX = 5


@dataclass(frozen=True)
class Features:
    """The strongest local features of an image."""

    points: np.ndarray
    """float32 (F, 2), x and y."""
    descriptors: np.ndarray
    """float32 (F, 128) of norm 1."""


@dataclass(frozen=True)
class Alignment:
    """Where one image lies in another."""

    matrix: np.ndarray
    """float64 (2, 3), from the first image's structure to the second's."""
    inliers: int
    """Features that agree on it."""
    correlation: float
    """Of the structures where both show tissue."""
    overlap: float
    """Share of the smaller image's tissue that both show."""


def find_features(structure: Structure) -> Features:
    """Find the strongest features in the tissue; upright, as scans are not turned."""
    picture = np.clip(structure.contrast * 40 + 128, 0, 255).astype(np.uint8)
    inside = structure.tissue.astype(np.uint8)
    inside[:BORDER_PX] = inside[-BORDER_PX:] = 0
    inside[:, :BORDER_PX] = inside[:, -BORDER_PX:] = 0
    sift = cv2.SIFT.create(contrastThreshold=0.02)
    found: dict[tuple[float, ...], cv2.KeyPoint] = {}
    for keypoint in sift.detect(picture, inside):
        if keypoint.size > SMALLEST_FEATURE_PX:  # below it is speckle
            keypoint.angle = 0.0
            found.setdefault((*keypoint.pt, keypoint.size), keypoint)
    strongest = sorted(found.values(), key=lambda keypoint: -keypoint.response)[:NUM_FEATURES]
    if not strongest:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    keypoints, histograms = sift.compute(picture, strongest)
    shares = histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1e-6)
    return Features(np.array([keypoint.pt for keypoint in keypoints], np.float32), np.sqrt(shares))


def match_features(first: Features, second: Features) -> np.ndarray:
    """Pair features that are each other's nearest and clearly so, int64 (M, 2)."""
    if min(len(first.points), len(second.points)) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    nothing = np.zeros((0, 0), dtype=np.float32)
    # OpenCV's product keeps to its thread, unlike numpy's; pairs are already spread over threads
    product = cv2.gemm(first.descriptors, second.descriptors, 1.0, nothing, 0.0, flags=cv2.GEMM_2_T)
    similarity = np.asarray(product)
    nearest = similarity.argmax(axis=1)
    everyone = np.arange(len(nearest))
    two = np.partition(similarity, -2, axis=1)[:, -2:]
    distances = np.maximum(2 - 2 * two, 0)
    clear = distances[:, 1] < RATIO**2 * distances[:, 0]
    mutual = similarity.argmax(axis=0)[nearest] == everyone
    chosen = everyone[clear & mutual]
    return np.stack([chosen, nearest[chosen]], axis=1)


def align(
    first: Structure, second: Structure, features: tuple[Features, Features]
) -> Alignment | None:
    """Lay the first image over the second; None where no alignment holds."""
    pairs = match_features(*features)
    if len(pairs) < MIN_INLIERS:
        return None
    source, target = features[0].points[pairs[:, 0]], features[1].points[pairs[:, 1]]
    matrix, agree = cv2.estimateAffinePartial2D(
        source, target, ransacReprojThreshold=REPROJECTION_PX
    )
    if matrix is None or agree.sum() < MIN_INLIERS:
        return None
    before = _correlate(first, second, matrix)
    refined = _refine(first, second, matrix)
    after = _correlate(first, second, refined)
    best, (correlation, overlap) = max((matrix, before), (refined, after), key=lambda x: x[1][0])
    return Alignment(best, int(agree.sum()), correlation, overlap)


def _refine(first: Structure, second: Structure, matrix: np.ndarray) -> np.ndarray:
    """Move an alignment to where the structures correlate best (ECC, Evangelidis 2008)."""
    inverse = cv2.invertAffineTransform(matrix).astype(np.float32)
    try:
        _, found = cv2.findTransformECC(
            second.contrast, first.contrast, inverse, cv2.MOTION_AFFINE, REFINEMENT,
            first.tissue.astype(np.uint8), REFINEMENT_BLUR_PX,
        )  # fmt: skip
    except cv2.error:  # it diverged: there is nothing to refine
        return matrix
    return cv2.invertAffineTransform(found).astype(np.float64)


def _correlate(first: Structure, second: Structure, matrix: np.ndarray) -> tuple[float, float]:
    """Correlation where both show tissue, and the share of the smaller one's that is."""
    height, width = second.contrast.shape
    moved = cv2.warpAffine(first.contrast, matrix, (width, height))
    tissue = cv2.warpAffine(first.tissue.astype(np.uint8), matrix, (width, height)) > 0
    both = tissue & second.tissue
    scale = abs(np.linalg.det(matrix[:, :2]))
    smaller = min(first.tissue.sum() * scale, second.tissue.sum())
    overlap = float(both.sum() / max(smaller, 1.0))
    if overlap < MIN_OVERLAP:
        return 0.0, overlap
    return float(np.corrcoef(moved[both], second.contrast[both])[0, 1]), overlap
