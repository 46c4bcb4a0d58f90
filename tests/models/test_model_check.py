from typing import Any

import pytest

from busi_tune.config import ModelConfig
from busi_tune.models import check_model


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"architecture": "report_cnn"}, 40),
        ({"architecture": "unet", "base_width": 1}, 48),
        ({"architecture": "smp_unet", "encoder": "resnet18"}, 100),
        ({"architecture": "segformer", "encoder": "mit_b0"}, 64),
        ({"architecture": "fpn", "encoder": "tu-test_resnet.r160_in1k"}, 64),
        ({"architecture": "dpt", "encoder": "tu-test_vit"}, 160),
    ],
)
def test_what_works_is_taken(settings: dict[str, Any], size: int) -> None:
    check_model(ModelConfig(**settings), size)


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({"architecture": "report_cnn"}, 100, "data.image_size 100; nearest that work: 96 and 104"),
        ({"architecture": "unet", "base_width": 1}, 250, "nearest that work: 240 and 256"),
        (
            {"architecture": "fpn", "encoder": "tu-test_resnet"},
            70,
            "fpn with model.encoder tu-test_resnet does not take .* work: 64 and 96",
        ),
        (
            {"architecture": "dpt", "encoder": "tu-vit_tiny_patch16_224"},
            512,
            "does not take data.image_size 512; nearest that work: 224$",
        ),
    ],
)
def test_sizes_are_refused_with_the_nearest(
    settings: dict[str, Any], size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_model(ModelConfig(**settings), size)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("resnet43", "nearest: resnet34"),
        ("convnext_tiny", "nearest: tu-convnext_tiny"),
        ("timm-skresnet18", "nearest: tu-skresnet18"),
        ("tu-resnet18.no_such_tag", "nearest: tu-resnet18"),
        ("", "examples: resnet34"),
    ],
)
def test_unknown_encoders_are_refused_with_the_nearest(encoder: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"unknown model.encoder {encoder}; {message}"):
        check_model(ModelConfig(architecture="fpn", encoder=encoder), 64)


@pytest.mark.parametrize(
    ("architecture", "encoder", "message"),
    [
        ("pan", "vgg11", "it goes with smp_unet, unetplusplus, .*segformer$"),
        ("smp_unet", "tu-test_vit", "it goes with dpt$"),
        ("smp_unet", "tu-crossvit_tiny_240", "no decoder does; all take tu-resnet34"),
    ],
)
def test_pairs_are_refused_with_the_decoders_that_take_the_encoder(
    architecture: str, encoder: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_model(ModelConfig(architecture=architecture, encoder=encoder), 160)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "unett"}, "unknown model.architecture unett"),
        ({"encoder_weights": "imagenet"}, "unet is trained from scratch.* with an encoder are smp"),
        (
            {
                "architecture": "fpn",
                "encoder": "resnext101_32x4d",
                "encoder_weights": "imagenet",
            },
            "no ImageNet weights of resnext101_32x4d; set model.encoder_weights to none or a file",
        ),
        (
            {"architecture": "fpn", "encoder": "resnet18", "encoder_weights": "missing.pth"},
            "there is no file missing.pth",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_model(ModelConfig(**settings), 64)
