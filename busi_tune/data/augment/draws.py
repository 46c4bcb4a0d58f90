"""How each image of a set is changed in an epoch: drawn on the host, for all of them at once.

The draws of jitter, crops and flips are those of torchvision's ColorJitter, RandomResizedCrop and
flips. Seed and epoch alone decide, so that an image's change depends neither on the batch nor on
the rank in which it lands. Every column is drawn whatever is off, so that a setting moves no other.
"""

import math

import torch
from torch import Tensor

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.strength import apply_strength
from busi_tune.data.seeds import derive_seed

COLUMNS = (
    "brightness", "contrast", "contrast_first", "left", "top", "width", "height",
    "flip_horizontal", "flip_vertical",
    "on_lesion", "pixel", "across", "down", "rotation", "zoom", "gamma", "speckle", "noise", "blur",
    "hole_side", "hole_left", "hole_top",
)  # fmt: skip
CELLS = 4
"""Spans of the deformation's spline along a side."""
POINTS = CELLS + 3
"""Its control points along a side; the outermost lie outside the image."""
CROP_ATTEMPTS = 10
_NOISE_SEEDS = 2**24  # whole numbers that float32 holds


def draw_parameters(num_images: int, seed: int, epoch: int, config: AugmentConfig) -> Tensor:
    """Draw how each image of a set is changed in an epoch.

    Args:
        num_images: images of the whole set, not of a batch.
        seed: the run's seed.
        epoch: number of the epoch.
        config: ranges and probabilities; `enabled` is the caller's business.

    Returns:
        (num_images, 22) float32 in the order of `COLUMNS`: factors; whether contrast comes before
        brightness; the crop's corner and sides as shares of the image's; whether it is flipped;
        whether the crop is placed on a lesion, on which of its pixels, and where in the crop that
        lies, shares; degrees; zoom factor; exponent; standard deviations of speckle (and the seed
        of its noise) and of the blur, pixels; side and corner of the cut-out square, shares. With
        `elastic` come 2 * 7 * 7 more: the displacements of `control_points`.
    """
    config = apply_strength(config)
    generator = torch.Generator().manual_seed(derive_seed("augment", seed, epoch))

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    def happens(probability: float) -> Tensor:
        return (torch.rand(num_images, generator=generator) < probability).float()

    def factor(spread: float) -> Tensor:
        return uniform(-math.log1p(spread), math.log1p(spread)).exp()

    jitter = [
        uniform(max(0.0, 1 - config.brightness), 1 + config.brightness),
        uniform(max(0.0, 1 - config.contrast), 1 + config.contrast),
        happens(0.5),
    ]
    width, height = _draw_crop_sides(num_images, config, generator)
    corner = [uniform(0, 1) * (1 - width), uniform(0, 1) * (1 - height)]
    flips = [happens(config.horizontal_flip), happens(config.vertical_flip)]
    lesion = [happens(config.lesion_crop), *(uniform(0, 1) for _ in range(3))]
    turn = [uniform(-config.rotation, config.rotation), factor(config.scale)]
    grey = [factor(config.gamma), uniform(0, config.speckle)]
    grey += [torch.randint(_NOISE_SEEDS, (num_images,), generator=generator).float()]
    grey += [uniform(0, config.blur)]
    side = uniform(0, config.cutout)
    hole = [side, uniform(0, 1) * (1 - side), uniform(0, 1) * (1 - side)]
    columns = [*jitter, *corner, width, height, *flips, *lesion, *turn, *grey, *hole]
    rows = torch.stack(columns, dim=1)
    if not config.elastic:
        return rows
    points = 2 * torch.rand((num_images, 2 * POINTS**2), generator=generator) - 1
    return torch.cat([rows, config.elastic * points], dim=1)


def pick(parameters: Tensor, *names: str) -> tuple[Tensor, ...]:
    """Pick columns of the rows of a batch, each (B,)."""
    return tuple(parameters[:, COLUMNS.index(name)] for name in names)


def control_points(parameters: Tensor) -> Tensor:
    """Return the deformation's displacements (B, 2, 7, 7), across and down, shares of the side."""
    return parameters[:, len(COLUMNS) :].view(-1, 2, POINTS, POINTS)


def _draw_crop_sides(
    num_images: int, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw areas and aspect ratios until the crop fits; where none does, keep the whole image."""
    shape = (num_images, CROP_ATTEMPTS)
    areas = config.crop_scale + (1 - config.crop_scale) * torch.rand(shape, generator=generator)
    spread = -math.log(config.crop_ratio)
    ratios = torch.exp(spread * (2 * torch.rand(shape, generator=generator) - 1))
    widths, heights = (areas * ratios).sqrt(), (areas / ratios).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    whole = torch.ones(num_images)
    width, height = (
        torch.where(fits.any(dim=1), sides.gather(1, first)[:, 0], whole)
        for sides in (widths, heights)
    )
    return width, height
