"""Random jitter, crops and flips: drawn per image on the host, applied to a batch on its device.

The draws are those of torchvision's ColorJitter, RandomResizedCrop and flips. They are made for
every image of the set at once from the seed and the epoch, so that an image's change depends
neither on the batch nor on the rank in which it lands.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from busi_tune.config import AugmentConfig
from busi_tune.data.seeds import derive_seed

COLUMNS = (
    "brightness", "contrast", "contrast_first", "left", "top", "width", "height",
    "flip_horizontal", "flip_vertical",
)  # fmt: skip
CROP_ATTEMPTS = 10


def draw_parameters(num_images: int, seed: int, epoch: int, config: AugmentConfig) -> Tensor:
    """Draw how each image of a set is changed in an epoch.

    Args:
        num_images: images of the whole set, not of a batch.
        seed: the run's seed.
        epoch: number of the epoch.
        config: ranges and probabilities; `enabled` is the caller's business.

    Returns:
        (num_images, 9) float32 in the order of `COLUMNS`: factors; whether contrast comes before
        brightness; the crop's corner and sides as shares of the image's; whether it is flipped.
    """
    generator = torch.Generator().manual_seed(derive_seed("augment", seed, epoch))

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    def happens(probability: float) -> Tensor:
        return (torch.rand(num_images, generator=generator) < probability).float()

    jitter = [
        uniform(max(0.0, 1 - config.brightness), 1 + config.brightness),
        uniform(max(0.0, 1 - config.contrast), 1 + config.contrast),
        happens(0.5),
    ]
    width, height = _draw_crop_sides(num_images, config, generator)
    corner = [uniform(0, 1) * (1 - width), uniform(0, 1) * (1 - height)]
    flips = [happens(config.horizontal_flip), happens(config.vertical_flip)]
    return torch.stack([*jitter, *corner, width, height, *flips], dim=1)


def augment(images: Tensor, masks: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Change a batch: jitter, then crop and flips as one resampling of image and mask alike.

    Args:
        images: (B, 1, S, S) in [0, 1].
        masks: (B, 1, S, S) of 0 and 1.
        parameters: (B, 9), the rows of `draw_parameters` for these images, on their device.

    Returns:
        Images, bilinear and in [0, 1], and masks, nearest and still of 0 and 1.
    """
    # Between the outermost pixel centres and the image's edge, "border" goes on with the pixel.
    resample = partial(
        grid_sample,
        grid=_sampling_grid(parameters, images.shape[-1]),
        padding_mode="border",
        align_corners=False,
    )
    return resample(jitter(images, parameters), mode="bilinear"), resample(masks, mode="nearest")


def jitter(images: Tensor, parameters: Tensor) -> Tensor:
    """Change brightness and contrast of images (B, 1, S, S), clamped to [0, 1] after each.

    Contrast blends with the image's own mean, so the order of the two matters.
    """
    brightness, contrast, contrast_first = parameters[:, :3].T[..., None, None, None]
    neutral = torch.ones_like(contrast)
    images = _change_contrast(images, torch.where(contrast_first > 0, contrast, neutral))
    images = (images * brightness).clamp(0, 1)
    return _change_contrast(images, torch.where(contrast_first > 0, neutral, contrast))


def _change_contrast(images: Tensor, factors: Tensor) -> Tensor:
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    return (factors * images + (1 - factors) * means).clamp(0, 1)


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


def _sampling_grid(parameters: Tensor, size: int) -> Tensor:
    """Return the (B, S, S, 2) points, in [-1, 1], at which the batch's images are read."""
    left, top, width, height, flip_x, flip_y = parameters[:, 3:].T[..., None]
    centres = (torch.arange(size, device=parameters.device) + 0.5) / size
    x = 2 * (left + width * torch.where(flip_x > 0, 1 - centres, centres)) - 1
    y = 2 * (top + height * torch.where(flip_y > 0, 1 - centres, centres)) - 1
    shape = (len(parameters), size, size)
    return torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
