"""Which changes of a scan the search for near-duplicates survives: share of changed copies found.

python -m busi_tune.data duplicates BUSI --out groups.csv
python experiments/benchmarks/duplicates.py --root BUSI --groups groups.csv --out results.jsonl

For each change, changed copies of some images join the whole set, candidates are proposed among
all of them by the rule that the command uses, and a copy counts as found if its pair with its
original is verified. Beside it how many pairs of a copy with an unrelated image pass (one that is
in another group than the original). One JSON line per change.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from lines import add_line
from PIL import Image

from busi_tune.data.busi import find_samples
from busi_tune.data.duplicates import IDENTICAL, RELATED
from busi_tune.data.matching import Features, align, find_features
from busi_tune.data.pixels import read_image
from busi_tune.data.thumbnails import extract_structure, propose_pairs, single_threaded

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def clip(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def change_brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return clip(image.astype(float) + rng.choice([-40, -20, 20, 40]))


def change_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return clip((image - image.mean()) * rng.choice([0.6, 0.8, 1.25, 1.6]) + image.mean())


def change_gamma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return clip(255 * (image / 255) ** rng.choice([0.6, 0.8, 1.25, 1.6]))


def halve(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return clip(image + rng.normal(0, 10, image.shape))


def save_as_jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file))


def draw_calipers(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    changed = image.copy()
    size = np.array(image.shape[::-1])
    middle = size * rng.uniform(0.35, 0.65, 2)
    for direction in ((1, 0.2), (-0.2, 1)):
        reach = np.array(direction) * size.min() * rng.uniform(0.1, 0.25)
        ends = [tuple(int(value) for value in middle + sign * reach) for sign in (-1, 1)]
        for end in ends:
            cv2.drawMarker(changed, end, 255, cv2.MARKER_CROSS, 14, 2)
        for share in np.linspace(0, 1, 30):
            x, y = np.array(ends[0]) * share + np.array(ends[1]) * (1 - share)
            cv2.circle(changed, (int(x), int(y)), 1, 255, -1)
    place = (int(size[0] * 0.1), int(size[1] * 0.85))
    cv2.putText(changed, "LT LOQ 3", place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    return changed


def crop(low: float, high: float) -> Change:
    def change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape
        top, bottom = (int(height * share) for share in rng.uniform(low, high, 2))
        left, right = (int(width * share) for share in rng.uniform(low, high, 2))
        return image[top : height - bottom, left : width - right]

    return change


def shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    right, down = (0.05 * side * rng.choice([-1, 1]) for side in image.shape[::-1])
    return cv2.warpAffine(image, np.array([[1, 0, right], [0, 1, down]]), image.shape[::-1])


def rotate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = image.shape[::-1]
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), float(rng.choice([-3, 3])), 1.0)
    return cv2.warpAffine(image, turn, size)


CHANGES: dict[str, Change] = {
    "brightness -40 to 40": change_brightness,
    "contrast 0.6 to 1.6": change_contrast,
    "gamma 0.6 to 1.6": change_gamma,
    "half size": halve,
    "noise of 10 grey levels": add_noise,
    "JPEG of quality 40": save_as_jpeg,
    "calipers and text": draw_calipers,
    "crop of 2 % a side": crop(0.02, 0.02),
    "crop of 2 to 10 % a side": crop(0.02, 0.1),
    "crop of 10 % a side": crop(0.1, 0.1),
    "shift of 5 %": shift,
    "rotation of 3 degrees": rotate,
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="images in BUSI's layout")
    parser.add_argument("--groups", required=True, help="groups.csv of these images")
    parser.add_argument("--images", type=int, default=60, help="images to change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file to which the lines are added")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    samples = find_samples(options.root, groups=options.groups)
    images = [read_image(sample.image_path) for sample in samples]
    with single_threaded():
        structures = [extract_structure(image) for image in images]
        features: dict[int, Features] = {}  # of the images that are looked at
        chosen = np.random.default_rng(options.seed).permutation(len(images))[: options.images]
        for number, (name, change) in enumerate(CHANGES.items()):
            began = time.process_time()
            rng = np.random.default_rng((options.seed, number))
            copies = [extract_structure(change(images[index], rng)) for index in chosen]
            everything = [*structures, *copies]
            copy_features = [find_features(copy) for copy in copies]
            scores, false = [0.0] * len(copies), 0
            for first, second in propose_pairs(everything):
                if first >= len(images) or second < len(images):
                    continue
                position = second - len(images)
                if first not in features:
                    features[first] = find_features(structures[first])
                both = features[first], copy_features[position]
                found = align(structures[first], copies[position], both)
                if found is None or found.correlation < RELATED:
                    continue
                if first == chosen[position]:
                    scores[position] = found.correlation
                false += samples[first].group != samples[chosen[position]].group
            line = {
                "change": name, "copies": len(copies), "images": len(images), "seed": options.seed,
                "found": round(float(np.mean(np.array(scores) > 0)), 4),
                "found_as_identical": round(float(np.mean(np.array(scores) >= IDENTICAL)), 4),
                "lowest_score": round(min(scores), 3),
                "median_score": round(float(np.median(scores)), 3),
                "unrelated": false,
                "cpu_seconds": round(time.process_time() - began, 1),
            }  # fmt: skip
            add_line(line, options.out)


if __name__ == "__main__":
    main()
