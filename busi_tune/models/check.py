"""Whether a network can be built and takes images of a size, told before anything is trained.

The network is built and run on the meta device, without memory or arithmetic, in a fraction of a
second: no table has to know which decoder takes which encoder.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from busi_tune.config import ModelConfig
from busi_tune.models.decoders import DECODERS
from busi_tune.models.heads import final_logits

_KNOWN_SIZES: dict[str, tuple[int, int]] = {}

Builder = Callable[[ModelConfig], nn.Module]

OPTIONS = {
    "decoder_dropout": ("unet", "attention_unet", *DECODERS),
    "decoder_attention": ("smp_unet", "unetplusplus"),
    "deep_supervision": ("unet", "attention_unet", "unetplusplus"),
}
"""What a decoder can have beside its plain form, and the architectures that can have it."""

# How far around a refused size another one is looked for, in pixels.
_SEARCH = 128


def check_options(config: ModelConfig) -> None:
    """Refuse dropout, attention and supervision where the architecture cannot have them.

    Raises:
        ValueError: the setting and the architectures that take it.
    """
    for name, architectures in OPTIONS.items():
        value, off = getattr(config, name), getattr(ModelConfig(), name)
        if value != off and config.architecture not in architectures:
            raise ValueError(
                f"model.{name} {value} does not go with model.architecture {config.architecture}, "
                f"only with {', '.join(architectures)}; set it to {off}"
            )


def check_encoder(config: ModelConfig) -> None:
    """Refuse an encoder that does not exist, or weights where there are none or is no encoder.

    Raises:
        ValueError: the name received and the nearest, or what to use instead.
    """
    if config.architecture not in DECODERS:
        if config.encoder_weights == "none":
            return
        raise ValueError(
            f"model.architecture {config.architecture} is trained from scratch, so "
            f"model.encoder_weights must be none, got {config.encoder_weights}; "
            f"architectures with an encoder are {', '.join(DECODERS)}"
        )
    from busi_tune.models.encoders import refuse_unknown_encoder

    refuse_unknown_encoder(config)


def check_network(build: Builder, config: ModelConfig, image_size: int) -> None:
    """Refuse a decoder that does not take the encoder, and images that the network does not take.

    Args:
        build: the architecture's builder.
        config: the network's settings; it is tried from scratch.
        image_size: side of the images in pixels.

    Raises:
        ValueError: with the architectures or the nearest sizes that can be used.
    """
    try:
        network = _build_on_meta(build, config)
    # The libraries raise errors of every kind for pairs that they do not support.
    except Exception as error:
        raise ValueError(
            f"model.architecture {config.architecture} does not take model.encoder "
            f"{config.encoder} ({error}); {_other_decoders(config, image_size)}"
        ) from error
    _KNOWN_SIZES[_name_network(config)] = _count(network)
    _pass_on_norms(network)
    if not _takes(network, image_size):
        encoder = f" with model.encoder {config.encoder}" * (config.architecture in DECODERS)
        sizes = " and ".join(map(str, _nearest_sizes(network, config, image_size)))
        raise ValueError(
            f"model.architecture {config.architecture}{encoder} does not take data.image_size "
            f"{image_size}; nearest that work: {sizes or 'none'}"
        )


def count_numbers(build: Builder, config: ModelConfig) -> tuple[int, int]:
    """Count the trainable weights of a network and its other numbers, at once if it was checked.

    Args:
        build: the architecture's builder.
        config: the network's settings.
    """
    name = _name_network(config)
    if name not in _KNOWN_SIZES:
        _KNOWN_SIZES[name] = _count(_build_on_meta(build, config))
    return _KNOWN_SIZES[name]


def _name_network(config: ModelConfig) -> str:
    scratch = dataclasses.replace(config, encoder_weights="none")
    return repr(dataclasses.replace(scratch, dropout=0.0, decoder_dropout=0.0))


def _count(network: nn.Module) -> tuple[int, int]:
    weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return weights, sum(tensor.numel() for tensor in network.state_dict().values()) - weights


def _build_on_meta(build: Builder, config: ModelConfig) -> nn.Module:
    scratch = dataclasses.replace(config, encoder_weights="none")
    try:
        with torch.device("meta"):
            return build(scratch)
    # Some read their own numbers while they are built, which takes memory.
    except RuntimeError:
        return build(scratch).to("meta")


def _pass_on_norms(network: nn.Module) -> None:
    """Make batch norms give back what they get: the same shape, without their price on meta."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda input: input  # type: ignore[method-assign]


def _takes(network: nn.Module, size: int) -> bool:
    images = torch.empty(2, 1, size, size, device="meta")
    try:
        with torch.no_grad():
            return final_logits(network(images)).shape == images.shape
    except Exception:
        return False


def _nearest_sizes(network: nn.Module, config: ModelConfig, size: int) -> list[int]:
    below = range((size - 1) // 8 * 8, max(size - _SEARCH, 8) - 1, -8)
    above = range(size // 8 * 8 + 8, size + _SEARCH + 1, 8)
    sizes = [next((s for s in side if _takes(network, s)), 0) for side in (below, above)]
    if not any(sizes) and config.architecture in DECODERS and config.encoder.startswith("tu-"):
        from busi_tune.models.weights import find_timm_settings

        # Encoders with position embeddings take one size alone.
        own = find_timm_settings(config.encoder).input_size[-1]
        sizes = [own if _takes(network, own) else 0]
    return [size for size in sizes if size]


def _other_decoders(config: ModelConfig, image_size: int) -> str:
    names = [name for name in DECODERS if _works(name, config, image_size)]
    return f"it goes with {', '.join(names)}" if names else "no decoder does; all take tu-resnet34"


def _works(decoder: str, config: ModelConfig, image_size: int) -> bool:
    from busi_tune.models.encoder_decoder import build_encoder_decoder

    other = dataclasses.replace(config, architecture=decoder)
    try:
        network = _build_on_meta(build_encoder_decoder, other)
    except Exception:
        return False
    _pass_on_norms(network)
    return _takes(network, image_size) or bool(_nearest_sizes(network, config, image_size))
