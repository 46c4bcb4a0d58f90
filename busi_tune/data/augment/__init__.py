"""Random changes of a batch, drawn per image on the host and applied on the batch's device."""

from torch import Tensor

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.grey import add_speckle, blur, change_gamma, cut_out, jitter
from busi_tune.data.augment.space import resample
from busi_tune.data.augment.strength import apply_strength


def augment(
    images: Tensor, masks: Tensor, parameters: Tensor, config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Change a batch: grey levels, then one resampling, then what happens at training size.

    Only changes that the configuration has cost anything.

    Args:
        images: (B, 1, S, S) in [0, 1].
        masks: (B, 1, S, S) of 0 and 1.
        parameters: the rows of `draw_parameters` for these images, on their device.
        config: that the parameters were drawn with.

    Returns:
        Images, bilinear and in [0, 1], and masks, nearest and still of 0 and 1.
    """
    config = apply_strength(config)
    images = jitter(images, parameters)
    if config.gamma:
        images = change_gamma(images, parameters)
    images, masks = resample(images, masks, parameters, config)
    if config.blur:
        images = blur(images, parameters, config.blur)
    if config.speckle:
        images = add_speckle(images, parameters)
    if config.cutout:
        images = cut_out(images, parameters)
    return images, masks
