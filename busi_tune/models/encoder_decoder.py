"""The decoders of segmentation-models-pytorch, with its encoders or timm's (`tu-<timm name>`).

torchvision's FCN joins them.
"""

import warnings
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from busi_tune.config import ModelConfig
from busi_tune.models.decoders import DECODERS
from busi_tune.models.fcn import FCN
from busi_tune.models.heads import DeepSupervision, Outputs, drop_before_last_convolution
from busi_tune.models.weights import find_normalisation, load_encoder_weights


class GreyInput(nn.Module):
    """A network for RGB images, shown grey ones as its encoder saw images in pre-training.

    Grey is repeated over the three channels and normalised, so that the pre-trained first layer is
    kept exactly; summing its weights over the channels would pad with another grey at the border.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Wrap a network whose encoder expects RGB images of this mean and standard deviation."""
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @property
    def encoder(self) -> nn.Module:
        """The pre-trained part, for a learning rate of its own."""
        return self.network.get_submodule("encoder")

    def forward(self, images: Tensor) -> Outputs:
        """Turn images (B, 1, H, W) in [0, 1] into logits (B, 1, H, W)."""
        outputs: Outputs = self.network((images.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return outputs


def find_decoder(name: str) -> Any:
    """Return the class of a network of `DECODERS`."""
    return FCN if name == "fcn" else getattr(smp, DECODERS[name])


def build_encoder_decoder(config: ModelConfig, pretrained: bool = True) -> nn.Module:
    """Build a decoder of segmentation-models-pytorch on a new or a pre-trained encoder.

    Args:
        config: the network, its architecture of `DECODERS`.
        pretrained: whether the encoder's weights are read; else those of a trained network, with
            its normalisation, are to be loaded.

    Raises:
        ValueError: the encoder's weights cannot be had.
    """
    if config.encoder_weights == "none":
        scratch: nn.Module = _build(config, weights=None, in_channels=1)
        return scratch
    if config.encoder_weights == "imagenet" and pretrained:
        return _build_downloaded(config)
    network = _build(config, weights=None, in_channels=3)
    if not pretrained:
        return GreyInput(network, (0.0,) * 3, (1.0,) * 3)
    load_encoder_weights(network.encoder, config.encoder, config.encoder_weights)
    return GreyInput(network, *find_normalisation(config.encoder, config.encoder_weights))


def _build_downloaded(config: ModelConfig) -> nn.Module:
    encoder = config.encoder
    weights = True if encoder.startswith("tu-") else "imagenet"
    try:
        network = _build(config, weights=weights, in_channels=3)
        return GreyInput(network, *find_normalisation(encoder, "imagenet"))
    except OSError as error:
        raise ValueError(
            f"the ImageNet weights of {encoder} could not be downloaded; pass a file, "
            f"--model.encoder_weights FILE ({str(error).splitlines()[0]})"
        ) from error


def _build(config: ModelConfig, weights: str | bool | None, in_channels: int) -> Any:
    decoder = find_decoder(config.architecture)
    attention = config.decoder_attention
    options = {} if attention == "none" else {"decoder_attention_type": attention}
    with warnings.catch_warnings():
        # dpt advises another readout for encoders without a class token; this one is as valid.
        warnings.filterwarnings("ignore", "Encoder does not have prefix tokens", UserWarning)
        network = decoder(
            config.encoder, encoder_weights=weights, in_channels=in_channels, **options
        )
    drop_before_last_convolution(network, config.decoder_dropout)
    return _supervise(network) if config.deep_supervision else network


def _supervise(network: smp.UnetPlusPlus) -> DeepSupervision:
    """Supervise the end of each row of U-Net++ but the finest.

    Zhou et al. supervise the columns of the finest row instead, so as to cut the network later;
    here a level is as coarse as the decoder's levels in the other networks.
    """
    decoder = network.decoder
    levels = [decoder.blocks[f"x_0_{level}"] for level in range(decoder.depth)]
    return DeepSupervision(network, levels, decoder.out_channels[:-1])
