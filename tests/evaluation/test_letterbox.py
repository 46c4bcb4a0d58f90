from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.resizing import make_square
from busi_tune.evaluation.evaluate import Evaluation, evaluate
from busi_tune.evaluation.operating_point import OperatingPoint

SIZE = 96
SHAPES = [(80, 240), (240, 80), (120, 120), (200, 181)]


class Perfect(nn.Module):
    """Finds the lesion, which is all that its images show; and all that is black, if asked to."""

    def __init__(self, inverted: bool = False) -> None:
        super().__init__()
        self.sign = -1 if inverted else 1

    def forward(self, images: Tensor) -> Tensor:
        return self.sign * 100 * (images - 0.5)


def make_set(resize: str) -> ImageSet:
    """Images whose lesion lies in a corner and is all that is bright."""
    masks = []
    for height, width in SHAPES:
        rows, columns = np.indices((height, width))
        masks.append((rows > 0.55 * height) & (columns < 0.4 * width))
    squares = np.stack([make_square(mask.astype(np.uint8) * 255, SIZE, resize) for mask in masks])
    packed = [np.packbits(mask) for mask in masks]
    names = tuple(f"image {index}" for index in range(len(masks)))
    return ImageSet(
        names=names,
        labels=("benign",) * len(masks),
        groups=names,
        image_size=SIZE,
        data_hash="0",
        images=squares,
        masks=(squares > 127).astype(np.uint8),
        sizes=np.array(SHAPES, dtype=np.int32),
        packed_masks=np.concatenate(packed),
        offsets=np.cumsum([0, *map(len, packed)], dtype=np.int64),
        resize=resize,
    )


def run(images: ImageSet, network: nn.Module, folder: Path | None = None) -> Evaluation:
    return evaluate(
        network, images, DeviceImages(images, torch.device("cpu")), range(len(images)),
        threshold=0.5, batch_size=3, point=OperatingPoint(0.5, 0), predictions=folder,
    )  # fmt: skip


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_perfect_prediction_is_perfect_in_original_pixels(resize: str, tmp_path: Path) -> None:
    images = make_set(resize)
    table = run(images, Perfect(), tmp_path).images
    assert (table["dice"] > 0.96).all()
    assert (table["hd95"] < 3).all()
    for index, (height, width) in enumerate(SHAPES):
        with Image.open(tmp_path / f"image {index}.png") as picture:
            assert picture.size == (width, height)


def test_what_is_found_in_the_borders_does_not_count() -> None:
    table = run(make_set("letterbox"), Perfect(inverted=True)).images
    assert list(table["tp"] + table["fp"] + table["fn"] + table["tn"]) == [
        height * width for height, width in SHAPES
    ]
    # All that is no lesion is found, and nothing else.
    background = [
        1 - make_set("letterbox").original_mask(index).mean() for index in range(len(SHAPES))
    ]
    found = (table["tp"] + table["fp"]) / (table["height"] * table["width"])
    assert found.to_numpy() == pytest.approx(background, abs=0.02)
