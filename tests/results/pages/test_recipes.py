from pathlib import Path
from typing import Any

import pytest

from busi_tune.config import LossConfig
from busi_tune.models import ARCHITECTURES
from busi_tune.results.pages.recipes import DECODERS, LOSSES, NETWORKS
from busi_tune.training.losses import build_losses
from tests.results.pages.test_methods import change, methods


def test_every_network_and_loss_has_its_words() -> None:
    assert {*NETWORKS, *DECODERS} == {*ARCHITECTURES}
    assert [*LOSSES] == [*build_losses(LossConfig())]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"architecture": "attention_unet", "base_width": 16, "deep_supervision": True},
            "16 channels at its first level with deep supervision of its coarser levels, trained "
            "from scratch",
        ),
        (
            {
                "architecture": "unetplusplus",
                "decoder_attention": "scse",
                "decoder_dropout": 0.2,
            },
            "a U-Net++ decoder on the encoder resnet34 with concurrent spatial and channel squeeze "
            "and excitation and dropout (0.2) before its last convolution, trained from scratch",
        ),
        (
            {"architecture": "fcn", "encoder": "resnet50", "encoder_weights": "imagenet"},
            "a FCN decoder on the encoder resnet50, pre-trained on ImageNet",
        ),
    ],
)
def test_networks_are_named_with_what_their_decoder_has(
    kfold_run: Path, model: dict[str, Any], said: str
) -> None:
    settings = {f"model.{name}": value for name, value in model.items()}
    change(kfold_run, {"kfold.models": {"unet": settings, "report_cnn": {}}})
    assert said in methods(kfold_run)


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        (
            {"training.max_seconds": 90.0, "training.epochs": 50, "training.patience": 0},
            "as many epochs as fit into 90 seconds, at most 50",
            "50 epochs with",
        ),
        ({"model.encoder_weights": "none"}, "", "repeated over three channels"),
        ({"model.encoder_weights": "imagenet"}, "repeated over three channels", "from scratch"),
    ],
)
def test_what_was_done_is_said_and_nothing_else(
    kfold_run: Path, settings: dict[str, Any], said: str, unsaid: str
) -> None:
    model = {"model.architecture": "smp_unet", **settings}
    change(kfold_run, {"kfold.models": {"unet": model, "report_cnn": model}})
    text = methods(kfold_run)
    assert said in text and unsaid not in text


def test_losses_are_named_with_their_weights_and_parameters(kfold_run: Path) -> None:
    losses = {"loss.bce": 0.0, "loss.focal": 1.0, "loss.tversky": 0.5, "loss.boundary": 2.0}
    change(kfold_run, {**losses, "loss.focal_gamma": 1.5})
    assert (
        "The loss was the sum of 1 times the soft Dice loss of each image, 1 times the focal loss "
        "(gamma 1.5), 0.5 times the Tversky loss of each image (alpha 0.3 for false positives) and "
        "2 times the boundary loss (distances in diagonals of the image)." in methods(kfold_run)
    )
