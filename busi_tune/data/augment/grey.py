"""Changes of an augmented batch's grey levels, each by its own image's parameters.

Images are (B, 1, S, S) in [0, 1] and stay there; masks are left as they are.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from busi_tune.data.augment.draws import pick

_WORD = 0xFFFFFFFF


def jitter(images: Tensor, parameters: Tensor) -> Tensor:
    """Change brightness and contrast of images (B, 1, S, S), clamped to [0, 1] after each.

    Contrast blends with the image's own mean, so the order of the two matters.
    """
    brightness, contrast, contrast_first = _per_image(
        parameters, "brightness", "contrast", "contrast_first"
    )
    neutral = torch.ones_like(contrast)
    images = _change_contrast(images, torch.where(contrast_first > 0, contrast, neutral))
    images = (images * brightness).clamp(0, 1)
    return _change_contrast(images, torch.where(contrast_first > 0, neutral, contrast))


def change_gamma(images: Tensor, parameters: Tensor) -> Tensor:
    """Raise grey levels to each image's exponent; above 1 darkens."""
    (gamma,) = _per_image(parameters, "gamma")
    return images**gamma


def blur(images: Tensor, parameters: Tensor, largest: float) -> Tensor:
    """Blur each image by its own Gaussian, whose kernel ends at 3 of the `largest` deviation.

    Beyond the edge the edge's pixels go on.
    """
    (deviations,) = pick(parameters, "blur")
    radius = math.ceil(3 * largest)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    # A deviation of 0 leaves the middle of the kernel alone.
    kernels = torch.exp(-((offsets / deviations[:, None].clamp(min=1e-3)) ** 2) / 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True))[:, None]
    # With the images as channels each has a kernel of its own.
    blurred = pad(images.transpose(0, 1), [radius] * 4, mode="replicate")
    for kernel in (kernels[:, :, None, :], kernels[:, :, :, None]):
        blurred = conv2d(blurred, kernel, groups=len(images))
    return blurred.transpose(0, 1).clamp(0, 1)


def add_speckle(images: Tensor, parameters: Tensor) -> Tensor:
    """Multiply every pixel by 1 plus Gaussian noise of the image's standard deviation."""
    deviation, seed = _per_image(parameters, "speckle", "noise")
    return (images * (1 + deviation * _draw_noise(seed, images.shape[-1]))).clamp(0, 1)


def cut_out(images: Tensor, parameters: Tensor) -> Tensor:
    """Blacken each image's square (DeVries and Taylor 2017)."""
    side, left, top = _per_image(parameters, "hole_side", "hole_left", "hole_top")
    size = images.shape[-1]
    centres = (torch.arange(size, device=images.device) + 0.5) / size
    across = (centres >= left) & (centres < left + side)
    down = (centres[:, None] >= top) & (centres[:, None] < top + side)
    return images.masked_fill(across & down, 0.0)


def _per_image(parameters: Tensor, *names: str) -> tuple[Tensor, ...]:
    """Pick columns, each (B, 1, 1, 1)."""
    return tuple(values[:, None, None, None] for values in pick(parameters, *names))


def _change_contrast(images: Tensor, factors: Tensor) -> Tensor:
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    return (factors * images + (1 - factors) * means).clamp(0, 1)


def _draw_noise(seeds: Tensor, size: int) -> Tensor:
    """Draw standard Gaussian noise (B, 1, S, S) from each image's seed (B, 1, 1, 1) alone.

    A hash of seed and pixel takes the place of a generator, which would need one state an image on
    the device; its halves are the two uniforms of Box and Muller (1958), so no value exceeds 4.9.
    """
    pixels = torch.arange(size**2, device=seeds.device).view(size, size)
    bits = _hash(_hash(seeds.long()) ^ pixels)
    radius = torch.sqrt(-2 * torch.log(((bits >> 16) + 0.5) / 2**16))
    return radius * torch.cos(2 * math.pi * (bits & 0xFFFF) / 2**16)


def _hash(words: Tensor) -> Tensor:
    """Mix whole numbers of 32 bits, in int64: shifts, and odd factors below 2^31.

    The same on every device, and no product overflows.
    """
    for shift in (16, 16):
        words = ((words >> shift) ^ words) * 0x45D9F3B & _WORD
    return (words >> 16) ^ words
