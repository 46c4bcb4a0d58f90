"""A contact sheet: samples of a folder, a row per class, with the outlines of their masks.

python -m busi_tune.data phantom OUT --sheet docs/phantom.png
"""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from busi_tune.data.busi import find_samples
from busi_tune.data.pixels import read_image, read_mask

TILE = (220, 170)
GREYS = 63
OUTLINE = (255, 190, 0)


def draw_sheet(root: Path, path: Path, columns: int = 6) -> None:
    """Write a PNG with the first images of every class and their masks' outlines.

    Args:
        root: Folder of images.
        path: The file to write.
        columns: Images per class.

    Raises:
        ValueError: The folder holds no images.
    """
    samples = find_samples(root)
    labels = sorted({sample.label for sample in samples})
    width, height = TILE
    sheet = np.zeros((len(labels) * height, columns * width), dtype=np.uint8)
    for row, label in enumerate(labels):
        chosen = [sample for sample in samples if sample.label == label][:columns]
        for column, sample in enumerate(chosen):
            tile = _draw_tile(read_image(sample.image_path), read_mask(sample.mask_paths))
            sheet[row * height :, column * width :][: height - 2, : width - 2] = tile
    picture = Image.fromarray(sheet).convert("P")
    # 63 greys and one colour keep the file a quarter of the size that RGB would take
    greys = [[round(255 * index / GREYS)] * 3 for index in range(GREYS)]
    picture.putpalette([value for colour in [*greys, OUTLINE] for value in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def _draw_tile(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Stretch to a tile of palette indices, the outline being the last."""
    size = (TILE[0] - 2, TILE[1] - 2)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    inside = np.asarray(Image.fromarray(mask).convert("L").resize(size)) > 127
    edge = ndimage.binary_dilation(inside) & ~inside
    return np.where(edge, GREYS, np.minimum(small.astype(int) * GREYS // 255, GREYS - 1))
