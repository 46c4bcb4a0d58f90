"""Milliseconds that HD95 and NSD, and the rest of an image's row, take on one core.

python experiments/benchmarks/surface.py
python experiments/benchmarks/surface.py --root BUSI --predictions RUN/predictions/unet

Without predictions, masks of 500 x 600 pixels with one to three lesions stand for truth and their
shifted, roughened copies for predictions. One JSON line.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from lines import add_line
from PIL import Image
from scipy.ndimage import gaussian_filter

from busi_tune.config import DataConfig
from busi_tune.data.cache import load_images
from busi_tune.evaluation.levels import threshold_level
from busi_tune.evaluation.operating_point import (
    OperatingPoint,
    counts_at,
    counts_by_threshold,
    counts_everywhere,
)
from busi_tune.evaluation.shape import irregularity
from busi_tune.evaluation.surface import surface_scores

Pair = tuple[np.ndarray, np.ndarray]

HALF = threshold_level(0.5)
POINT = OperatingPoint(0.4, 100)
PARTS: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "hd95_and_nsd": lambda levels, truth: surface_scores(levels >= HALF, truth),
    "irregularity": lambda levels, truth: irregularity(truth),
    "dice_over_thresholds": counts_by_threshold,
    "tuned_counts_test": lambda levels, truth: counts_at(levels, truth, POINT),
    "tuned_counts_validation": counts_everywhere,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="images in BUSI's layout, for --predictions")
    parser.add_argument("--predictions", type=Path, help="folder of maps, <image>.png")
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.predictions:
        pairs = read_pairs(options.root, options.predictions, options.images)
    else:
        pairs = [draw_pair(seed) for seed in range(options.images)]
    line: dict[str, object] = {
        "images": len(pairs),
        "mean_pixels": round(float(np.mean([truth.size for _, truth in pairs]))),
    }
    for name, function in PARTS.items():
        milliseconds = [measure(function, pair) for pair in pairs]
        line[f"{name}_ms_mean"] = round(float(np.mean(milliseconds)), 2)
        line[f"{name}_ms_max"] = round(max(milliseconds), 2)
    add_line(line, None)


def measure(function: Callable[[np.ndarray, np.ndarray], object], pair: Pair) -> float:
    """Measure the processor's time for an image, which other processes do not lengthen much."""
    times = []
    for _ in range(3):
        began = time.process_time()
        function(*pair)
        times.append(time.process_time() - began)
    return 1000 * min(times)


def read_pairs(root: str | None, folder: Path, number: int) -> list[Pair]:
    images = load_images(DataConfig(root=root, groups="none"))
    pairs = []
    for index in np.linspace(0, len(images) - 1, min(number, len(images))).astype(int):
        with Image.open(folder / f"{images.names[index]}.png") as levels:
            pairs.append((np.asarray(levels), images.original_mask(index)))
    return pairs


def draw_pair(seed: int) -> Pair:
    generator = np.random.default_rng(seed)
    rows, columns = np.ogrid[:500, :600]
    truth = np.zeros((500, 600), dtype=bool)
    for _ in range(generator.integers(1, 4)):
        top, left = generator.uniform(100, 400, 2)
        height, width = generator.uniform(15, 120, 2)
        truth |= ((rows - top) / height) ** 2 + ((columns - left) / width) ** 2 < 1
    noise = gaussian_filter(generator.standard_normal(truth.shape), 5)
    moved = np.roll(truth, generator.integers(-15, 16, 2), (0, 1))
    soft = gaussian_filter(moved.astype(float), 5) + 0.1 * noise / noise.std()
    return np.clip(255 * soft, 0, 255).astype(np.uint8), truth


if __name__ == "__main__":
    main()
