"""The augmentation's settings with their common strength in them; without torch."""

from dataclasses import replace

from busi_tune.config import AugmentConfig


def apply_strength(config: AugmentConfig) -> AugmentConfig:
    """Multiply the strengths by `strength`, which is 1 afterwards; probabilities stay.

    Area and aspect ratio of a crop, whose 1 is no crop, are raised to that power: at half the
    strength a crop of at least 8 % of the area is one of at least 28 %.
    """
    factor = config.strength
    return replace(
        config,
        strength=1.0,
        brightness=factor * config.brightness,
        contrast=factor * config.contrast,
        crop_scale=config.crop_scale**factor,
        crop_ratio=config.crop_ratio**factor,
        rotation=factor * config.rotation,
        scale=factor * config.scale,
        elastic=factor * config.elastic,
        gamma=factor * config.gamma,
        speckle=factor * config.speckle,
        blur=factor * config.blur,
        cutout=min(1.0, factor * config.cutout),
    )
