import base64
import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from busi_tune.data.phantom import render
from busi_tune.results.html.pictures import (
    LONG_SIDE,
    encode_picture,
    picture_size,
    trace_outline,
)


def disc(height: int, width: int, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < radius**2


def fill(path: str, height: int, width: int) -> np.ndarray:
    """Fill an outline by the even-odd rule, as a browser does."""
    polygons = [
        np.array(list(map(int, part.split())), dtype=np.int32).reshape(-1, 2)
        for part in re.findall(r"M([^Z]+)Z", path)
    ]
    filled = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(filled, polygons, 1)
    return filled.astype(bool)


def test_a_picture_keeps_its_proportions_and_is_never_enlarged() -> None:
    assert picture_size(500, 1000) == (LONG_SIDE // 2, LONG_SIDE)
    assert picture_size(40, 80) == (40, 80)


def test_a_picture_is_decoded_to_about_the_same_grey_levels() -> None:
    image = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(encode_picture(image, 60, 120)))) as shown:
        assert shown.size == (120, 60)
        expected = np.asarray(Image.fromarray(image).resize((120, 60)))
        assert abs(np.asarray(shown.convert("L")).astype(float) - expected).mean() < 5


@pytest.mark.parametrize(("height", "width"), [(200, 200), (400, 700), (100, 60)])
def test_an_outline_holds_the_pixels_of_its_mask(height: int, width: int) -> None:
    mask = disc(height, width, 0.3 * min(height, width))
    rows, columns = picture_size(height, width)
    shown = np.asarray(Image.fromarray(mask).resize((columns, rows), Image.Resampling.NEAREST))
    filled = fill(trace_outline(mask), rows, columns)
    overlap = 2 * (filled & shown).sum() / (filled.sum() + shown.sum())
    assert overlap > 0.96


def test_an_outline_has_a_part_for_every_component_and_hole() -> None:
    mask = disc(100, 100, 30) & ~disc(100, 100, 12)
    mask[2:8, 2:8] = True
    assert trace_outline(mask).count("M") == 3


def test_an_empty_mask_has_no_outline_and_a_single_pixel_has_one() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    assert trace_outline(mask) == ""
    mask[20, 30] = True
    assert trace_outline(mask).startswith("M30 20")


def test_700_images_of_six_models_stay_below_15_megabytes() -> None:
    """Of a page a quarter is left for tables and figures, whose six models took 3 megabytes."""
    sizes = []
    for seed, label in enumerate(("benign", "malignant") * 2):
        generator = np.random.default_rng(seed)
        scan, masks = render(generator, label)
        truth = cv2.resize(np.any(masks, axis=0).view(np.uint8), (600, 500)) > 0
        # Rough outlines are long ones.
        noise = cv2.GaussianBlur(generator.standard_normal((500, 600)), (0, 0), 3)
        soft = cv2.GaussianBlur(truth.astype(float), (0, 0), 5) + 0.15 * noise / noise.std()
        outlines = [trace_outline(truth), *6 * [trace_outline(soft >= 0.5)]]
        # Grain that hardly compresses: more bytes than BUSI's pictures take, some 5000.
        grain = cv2.resize(scan, (256, 256)) * (1 + 0.08 * generator.standard_normal((256, 256)))
        picture = encode_picture(np.clip(grain, 0, 255).astype(np.uint8), 500, 600)
        sizes.append(len(picture) + sum(map(len, outlines)))
    assert min(sizes) > 10_000
    assert 700 * np.mean(sizes) < 0.75 * 15e6, sizes
