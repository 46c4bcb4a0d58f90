"""What was done to the training images of a model, in words."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.strength import apply_strength


def list_changes(setting: Callable[[str], Any]) -> list[str]:
    """List the random changes of a model's training images, in the order in which they are made.

    Args:
        setting: a setting of the model, by its dotted name.
    """
    names = [field.name for field in fields(AugmentConfig)]
    config = apply_strength(AugmentConfig(**{name: setting(f"augment.{name}") for name in names}))
    if not config.enabled:
        return []
    return [*_grey_levels(config), *_space(config), *_at_training_size(config)]


def _grey_levels(config: AugmentConfig) -> list[str]:
    changes = []
    jitter: dict[float, list[str]] = {}
    for name, spread in (("brightness", config.brightness), ("contrast", config.contrast)):
        jitter.setdefault(spread, []).append(name)
    for spread, names in jitter.items():
        if spread:
            span = f"{max(0.0, 1 - spread):g} to {1 + spread:g}"
            each = " each" if len(names) > 1 else ""
            changes.append(f"{' and '.join(names)} changed by a factor of {span}{each}")
    if config.gamma:
        changes.append(f"a gamma of {_factors(config.gamma)}")
    return changes


def _space(config: AugmentConfig) -> list[str]:
    changes = []
    if config.elastic:
        changes.append(
            "a smooth deformation (cubic B-splines over 4 by 4 cells) by up to "
            f"{100 * config.elastic:g} % of the side"
        )
    if config.scale:
        changes.append(f"a zoom by {_factors(config.scale)}")
    if config.rotation:
        changes.append(f"a rotation by up to {config.rotation:g} degrees to either side")
    scale, ratio = config.crop_scale, config.crop_ratio
    if scale < 1 or ratio < 1:
        placed = f", with probability {config.lesion_crop:g} placed on a pixel of the lesion"
        changes.append(
            f"a crop of {100 * scale:.3g} to 100 % of the area with an aspect ratio of "
            f"{ratio:.3g} to {1 / ratio:.3g}{placed if config.lesion_crop else ''}"
        )
    flips = (("left-right", config.horizontal_flip), ("top-bottom", config.vertical_flip))
    changes += [f"a {flip} flip with probability {share:g}" for flip, share in flips if share]
    return changes


def _at_training_size(config: AugmentConfig) -> list[str]:
    changes = []
    if config.blur:
        changes.append(f"a Gaussian blur with a standard deviation of up to {config.blur:g} pixels")
    if config.speckle:
        changes.append(
            "multiplicative Gaussian noise with a standard deviation of up to "
            f"{100 * config.speckle:g} %"
        )
    if config.cutout:
        changes.append(
            f"a square of up to {100 * config.cutout:g} % of the side blackened in the image alone"
        )
    return changes


def _factors(spread: float) -> str:
    """Say the range of a factor whose logarithm is drawn evenly."""
    return f"{1 / (1 + spread):.3g} to {1 + spread:.3g}"
