"""Which encoders there are, and which of them have ImageNet weights."""

import difflib

import segmentation_models_pytorch as smp
import timm

from busi_tune.config import ModelConfig
from busi_tune.models.weights import find_timm_settings


def refuse_unknown_encoder(config: ModelConfig) -> None:
    """Refuse an encoder that does not exist, or ImageNet weights where there are none.

    Raises:
        ValueError: the name received and the nearest, or what to use instead.
    """
    name = config.encoder
    if not _exists(name):
        # The names `timm-...` are deprecated, and some compute something else than timm does.
        known = [known for known in smp.encoders.get_encoder_names() if known[:5] != "timm-"]
        known += [f"tu-{known}" for known in timm.list_models()]
        near = difflib.get_close_matches(name.replace("timm-", "tu-"), known, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else "examples: resnet34, tu-convnext_tiny"
        raise ValueError(f"unknown model.encoder {name}; {hint}")
    if config.encoder_weights == "imagenet" and not _has_imagenet_weights(name):
        raise ValueError(
            f"there are no ImageNet weights of {name}; set model.encoder_weights to none or a file"
        )


def _exists(encoder: str) -> bool:
    if not encoder.startswith("tu-"):
        return encoder in smp.encoders.get_encoder_names() and not encoder.startswith("timm-")
    try:
        find_timm_settings(encoder)
    except RuntimeError:
        return False
    return True


def _has_imagenet_weights(encoder: str) -> bool:
    if encoder.startswith("tu-"):
        return bool(timm.models.is_model_pretrained(encoder.removeprefix("tu-")))
    return "imagenet" in smp.encoders.encoders[encoder]["pretrained_settings"]
