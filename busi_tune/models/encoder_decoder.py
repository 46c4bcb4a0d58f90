"""The decoders of segmentation-models-pytorch with its own or timm's encoders (`tu-<timm name>`)."""

from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from busi_tune.config import ModelConfig

# `unet` is the classic one.
DECODERS: dict[str, Any] = {
    "smp_unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
    "linknet": smp.Linknet,
    "manet": smp.MAnet,
    "pan": smp.PAN,
    "pspnet": smp.PSPNet,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "dpt": smp.DPT,
}


def build_encoder_decoder(decoder: Any, config: ModelConfig) -> nn.Module:
    """Build a decoder of segmentation-models-pytorch on an encoder from scratch."""
    model: nn.Module = decoder(config.encoder, encoder_weights=None, in_channels=1)
    return model
