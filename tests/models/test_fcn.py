from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torchvision.models import resnet50
from torchvision.models.segmentation import fcn_resnet50
from torchvision.models.segmentation.fcn import FCNHead

from busi_tune.config import ModelConfig
from busi_tune.models import build_model, check_model
from busi_tune.models.encoder_decoder import GreyInput
from busi_tune.models.fcn import FCN


def test_computes_what_torchvisions_network_does() -> None:
    original = fcn_resnet50(weights=None, weights_backbone=None, num_classes=1).eval()
    network = FCN("resnet50", encoder_weights=None, in_channels=3).eval()
    network.encoder.load_state_dict(original.backbone.state_dict())
    network.classifier.load_state_dict(original.classifier.state_dict())
    images = torch.rand(1, 3, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), original(images)["out"], rtol=0, atol=0)


def test_a_file_of_torchvision_fills_the_backbone_which_sees_grey_as_rgb(tmp_path: Path) -> None:
    weights = resnet50().state_dict()
    torch.save(weights, tmp_path / "resnet50.pth")
    network = build_model(ModelConfig("fcn", "resnet50", str(tmp_path / "resnet50.pth")))
    assert isinstance(network, GreyInput)
    backbone = network.encoder.state_dict()
    assert len(backbone) == len(weights) - 2
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.items())


def test_imagenet_weights_are_those_of_the_encoder_of_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = resnet50()
    asked = []

    def get_encoder(name: str, weights: str) -> torch.nn.Module:
        asked.append((name, weights))
        trained.fc = trained.avgpool = torch.nn.Identity()
        return trained

    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_encoder", get_encoder)
    network = FCN("resnet50", encoder_weights="imagenet", in_channels=3)
    assert asked == [("resnet50", "imagenet")]
    assert torch.equal(network.encoder["layer4"][2].conv3.weight, trained.layer4[2].conv3.weight)


def test_other_encoders_are_dilated_to_an_eighth_and_end_in_torchvisions_head() -> None:
    network = FCN("tu-tf_efficientnet_lite0", encoder_weights=None, in_channels=1).eval()
    assert isinstance(network.classifier, FCNHead)
    images = torch.rand(1, 1, 64, 48)
    with torch.no_grad():
        last = network.encoder(images)[-1]
        assert last.shape[2:] == (8, 6)
        coarse = network.classifier(last)
        whole = functional.interpolate(coarse, size=(64, 48), mode="bilinear")
        torch.testing.assert_close(network(images), whole, rtol=0, atol=0)


def test_an_encoder_that_cannot_be_dilated_is_refused_with_decoders_that_take_it() -> None:
    message = r"fcn does not take model.encoder vgg11 .*; it goes with smp_unet, unetplusplus"
    with pytest.raises(ValueError, match=message):
        check_model(ModelConfig("fcn", "vgg11"), 64)


@pytest.mark.parametrize("encoder", ["resnet50", "resnet101", "tu-tf_efficientnet_lite0"])
def test_encoders_are_taken_at_any_size(encoder: str) -> None:
    check_model(ModelConfig("fcn", encoder), 100)
