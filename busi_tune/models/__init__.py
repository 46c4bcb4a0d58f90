"""The networks: images (B, 1, H, W) in [0, 1] to logits (B, 1, H, W), from one dict of builders."""

from collections.abc import Callable
from functools import partial

from torch import nn

from busi_tune.config import ModelConfig
from busi_tune.models.encoder_decoder import DECODERS, build_encoder_decoder
from busi_tune.models.report_cnn import build_report_cnn
from busi_tune.models.unet import UNet

ARCHITECTURES: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "report_cnn": lambda config: build_report_cnn(config.dropout),
    "unet": lambda config: UNet(config.base_width),
    **{name: partial(build_encoder_decoder, decoder) for name, decoder in DECODERS.items()},
}


def build_model(config: ModelConfig) -> nn.Module:
    """Build the network; its weights come from torch's global generator where no file has them."""
    return ARCHITECTURES[config.architecture](config)


def num_parameters(model: nn.Module) -> int:
    """Count the trainable weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
