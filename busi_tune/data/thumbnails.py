"""Candidates for near-duplicates: local-contrast thumbnails, correlated at every shift.

Dividing an image's deviation from its surroundings by their contrast leaves its structure, whatever
brightness, contrast, gamma and depth gain were; calipers and text, though bright, weigh no more
than tissue. A correlation over all shifts finds what a crop has moved, enlarged copies what it has
scaled, since every image fills the same square.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from busi_tune.data.parallel import Progress, map_threads

SIDE_PX = 320
"""Longer side to which images are scaled before anything is compared."""
BLUR_PX = 1.0
SURROUNDINGS_PX = 12.0
CONTRAST_FLOOR = 4.0
"""Grey levels added to the local contrast, so that noise on black stays small."""
BLACK = 10.0
"""Grey level below which an area is no tissue."""
THUMBNAIL_PX = 32
MAX_SHIFT_PX = 10
PADDED_PX = THUMBNAIL_PX + MAX_SHIFT_PX
"""Side of the Fourier transform: as large as keeps the shifts from wrapping around."""
ZOOMS = (1.0, 1.16, 1.34)
"""Enlargements of either image; steps of a sixth, half of which the correlation forgives."""
NUM_BEST = 5
"""An image's most similar ones are always candidates; so is whatever is above CERTAIN."""
CERTAIN = 0.3


@dataclass(frozen=True)
class Structure:
    """What is left of an image when brightness and contrast are taken out."""

    contrast: np.ndarray
    """float32 (h, w), longer side SIDE_PX: standard deviations from the surroundings."""
    tissue: np.ndarray
    """bool (h, w), False on the black beside a sector."""
    scale: float
    """Pixels here per pixel of the image."""


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Keep OpenCV to the thread that calls it, where the images are spread over threads."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def extract_structure(image: np.ndarray) -> Structure:
    """Normalise the local contrast of a grey image, uint8 (H, W)."""
    height, width = image.shape
    scale = SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, size, interpolation=method).astype(np.float32)
    grey = cv2.GaussianBlur(resized, (0, 0), BLUR_PX)
    deviation = grey - cv2.GaussianBlur(grey, (0, 0), SURROUNDINGS_PX)
    spread = np.sqrt(cv2.GaussianBlur(deviation**2, (0, 0), SURROUNDINGS_PX))
    contrast = np.clip(deviation / (spread + CONTRAST_FLOOR), -3, 3)
    tissue = cv2.blur(grey, (9, 9)) > BLACK
    return Structure(contrast, tissue, scale)


def propose_pairs(
    structures: Sequence[Structure], progress: Progress | None = None
) -> list[tuple[int, int]]:
    """List the pairs worth a closer look, (first, second) with first < second, sorted.

    Args:
        structures: Of every image.
        progress: Called after each image.
    """
    spectra = [_transform(structures, zoom) for zoom in ZOOMS]
    num_images = len(structures)
    similarity = np.zeros((num_images, num_images), dtype=np.float32)

    def compare(index: int) -> np.ndarray:
        """Similarity of an image with all later ones, either of them enlarged."""
        plain = spectra[0]
        peaks = [_peaks(plain[index], plain[index + 1 :])]
        for enlarged in spectra[1:]:
            peaks.append(_peaks(plain[index], enlarged[index + 1 :]))
            peaks.append(_peaks(enlarged[index], plain[index + 1 :]))
        return np.asarray(np.stack(peaks).max(axis=0))

    rows = map_threads(compare, range(num_images), progress)
    for index, row in enumerate(rows):
        similarity[index, index + 1 :] = similarity[index + 1 :, index] = row
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :NUM_BEST]
    chosen = similarity > CERTAIN
    np.put_along_axis(chosen, best, True, axis=1)
    chosen |= chosen.T
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(chosen, 1))]


def _transform(structures: Sequence[Structure], zoom: float) -> np.ndarray:
    """Spectra of the thumbnails, enlarged around the middle and padded for free shifts."""
    return np.stack([fft.rfft2(_thumbnail(structure, zoom)) for structure in structures])


def _thumbnail(structure: Structure, zoom: float) -> np.ndarray:
    """float32 (P, P) of norm 1, in a corner, padded for the shifts."""
    height, width = structure.contrast.shape
    step = THUMBNAIL_PX / SIDE_PX
    inner_height, inner_width = round(height / zoom), round(width / zoom)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    inside = structure.contrast[top : top + inner_height, left : left + inner_width]
    size = (max(1, round(width * step)), max(1, round(height * step)))
    small = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    small -= small.mean()
    padded = np.zeros((PADDED_PX, PADDED_PX), dtype=np.float32)
    padded[: size[1], : size[0]] = small / max(float(np.linalg.norm(small)), 1e-6)
    return padded


def _peaks(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Largest correlation of a thumbnail with others over shifts, float32 (N,)."""
    if not len(others):
        return np.zeros(0, dtype=np.float32)
    correlation = fft.irfft2(one.conj() * others, (PADDED_PX, PADDED_PX), overwrite_x=True)
    lags = np.r_[0 : MAX_SHIFT_PX + 1, -MAX_SHIFT_PX:0]
    return np.asarray(correlation[:, lags][:, :, lags].max(axis=(1, 2)))
