from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional

from busi_tune.config import ModelConfig
from busi_tune.models import ARCHITECTURES, build_model, num_parameters
from busi_tune.models.decoders import DECODERS
from busi_tune.models.encoder_decoder import find_decoder

# The tiny ResNet has no stages that could be dilated.
ENCODERS = dict.fromkeys(("pan", "deeplabv3", "deeplabv3plus", "fcn"), "tu-mobilenetv3_small_050")
SIZES = {"pan": 128, "fcn": 32}
MADE_FOR_CONVOLUTIONS = ("unetplusplus", "linknet", "dpt", "fcn")


def build_tiny(architecture: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS.get(architecture, "tu-test_resnet")
    return build_model(ModelConfig(architecture, encoder, base_width=4, **settings))


def test_every_decoder_of_the_library_is_offered() -> None:
    decoders = {find_decoder(name) for name in DECODERS if name != "fcn"}
    assert decoders == {*smp.MODEL_ARCHITECTURES_MAPPING.values()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_lowers_the_loss(architecture: str) -> None:
    network = build_tiny(architecture)
    size = SIZES.get(architecture, 64)
    images = torch.rand(2, 1, size, size)
    masks = (images > 0.5).float()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        logits = network(images)
        assert logits.shape == images.shape
        loss = functional.binary_cross_entropy_with_logits(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


PAIRS = [
    *((decoder, "tu-tf_efficientnet_lite0") for decoder in DECODERS),
    # The library refuses transformers in the others, and dpt takes timm's encoders alone.
    *((decoder, "mit_b0") for decoder in DECODERS if decoder not in MADE_FOR_CONVOLUTIONS),
]


@pytest.mark.parametrize(("architecture", "encoder"), PAIRS)
def test_decoders_train_with_encoders_of_other_families(architecture: str, encoder: str) -> None:
    network = build_model(ModelConfig(architecture, encoder))
    size = SIZES.get(architecture, 64)
    network(torch.rand(2, 1, size, size)).square().mean().backward()
    gradients = [w.grad for w in network.parameters() if w.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) > len(gradients) / 2


@pytest.mark.parametrize("architecture", ["smp_unet", "dpt", "fcn"])
def test_an_encoder_from_scratch_reads_one_channel(architecture: str) -> None:
    first = next(m for m in build_tiny(architecture).modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 1


def test_unknown_architecture_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"unknown model.architecture vnet; one of report_cnn, un"):
        build_model(ModelConfig(architecture="vnet"))


def test_the_number_of_weights_leaves_out_frozen_ones() -> None:
    layer = nn.Linear(3, 2)
    assert num_parameters(layer) == 8
    layer.bias.requires_grad_(False)
    assert num_parameters(layer) == 6
