"""Batches, and rows of parameters set by hand."""

import torch
from torch import Tensor

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.draws import COLUMNS

SIZE = 32
IDENTITY = {
    "brightness": 1.0, "contrast": 1.0, "width": 1.0, "height": 1.0, "zoom": 1.0, "gamma": 1.0,
}  # fmt: skip
NOTHING = AugmentConfig(
    brightness=0, contrast=0, crop_scale=1, crop_ratio=1, horizontal_flip=0, vertical_flip=0
)
NEW = {
    "lesion_crop": 0.5, "rotation": 20, "scale": 0.3, "elastic": 0.1, "gamma": 0.4, "speckle": 0.3,
    "blur": 1.5, "cutout": 0.5,
}  # fmt: skip
EVERYTHING = AugmentConfig(**NEW)


def make_batch(num_images: int = 4, size: int = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((num_images, 1, size, size), generator=generator)
    masks = torch.zeros_like(images)
    masks[:, :, size // 4 : size // 2, size // 3 :] = 1
    return images, masks


def parameters(num_images: int = 4, **columns: float) -> Tensor:
    row = [(IDENTITY | columns).get(name, 0.0) for name in COLUMNS]
    return torch.tensor([row]).repeat(num_images, 1)


def column(values: Tensor, name: str) -> Tensor:
    return values[:, COLUMNS.index(name)]
