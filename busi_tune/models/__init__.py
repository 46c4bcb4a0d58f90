"""The networks: images (B, 1, H, W) in [0, 1] to logits (B, 1, H, W), from one dict of builders.

With deep supervision they give logits of coarser levels too, in training mode alone.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from busi_tune.config import ModelConfig
from busi_tune.models.check import check_encoder, check_network, check_options, count_numbers
from busi_tune.models.decoders import DECODERS
from busi_tune.models.report_cnn import build_report_cnn
from busi_tune.models.unet import build_unet


def _build_encoder_decoder(config: ModelConfig, pretrained: bool = True) -> nn.Module:
    """Build one of the libraries' networks; they are imported by whoever needs them alone."""
    from busi_tune.models.encoder_decoder import build_encoder_decoder

    return build_encoder_decoder(config, pretrained)


ARCHITECTURES: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "report_cnn": lambda config: build_report_cnn(config.dropout),
    "unet": build_unet,
    "attention_unet": partial(build_unet, attention=True),
    **dict.fromkeys(DECODERS, _build_encoder_decoder),
}


def build_model(config: ModelConfig) -> nn.Module:
    """Build the network; weights that no file gives come from torch's global generator.

    Raises:
        ValueError: the architecture is unknown, or its encoder's weights cannot be had.
    """
    return _find_builder(config)(config)


def restore_model(config: ModelConfig, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build a trained network from its weights alone; those of its encoder are not looked for.

    Raises:
        ValueError: the weights are of another network.
    """
    if config.architecture in DECODERS:
        model = _build_encoder_decoder(config, pretrained=False)
    else:
        model = build_model(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit {config.architecture}: {error}") from error
    return model


def check_model(config: ModelConfig, image_size: int) -> None:
    """Refuse a network that cannot be built or does not take images of this size.

    Pre-trained weights are read, downloaded where need be.

    Args:
        config: the network.
        image_size: side of the images in pixels.

    Raises:
        ValueError: the rule, the value received and what can be used instead.
    """
    build = _find_builder(config)
    check_options(config)
    check_encoder(config)
    check_network(build, config, image_size)
    if config.encoder_weights != "none":
        build(config)


def model_size(config: ModelConfig) -> tuple[int, int]:
    """Count a network's trainable weights and its other numbers, without building it in memory.

    The heads of deep supervision, which are trained and kept but not used afterwards, count too.
    """
    return count_numbers(_find_builder(config), config)


def _find_builder(config: ModelConfig) -> Callable[[ModelConfig], nn.Module]:
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"unknown model.architecture {config.architecture}; one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[config.architecture]


def num_parameters(model: nn.Module) -> int:
    """Count the trainable weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
