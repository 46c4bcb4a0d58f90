"""Networks brought back from their weights, and their average over flips."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from busi_tune.config import Config, ModelConfig
from busi_tune.models import restore_model
from busi_tune.models.encoder_decoder import GreyInput, build_encoder_decoder
from busi_tune.prediction.networks import Network, Networks, find_flips, load_networks
from busi_tune.settings import override
from busi_tune.training.checkpoint import save_checkpoint

CPU = torch.device("cpu")
SMALL = {"model.architecture": "unet", "model.base_width": 2, "data.image_size": 16}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [(), (-2,), (-1,), (-1, -2)]),
        ({"augment.vertical_flip": 0.0}, [(), (-1,)]),
        ({"augment.horizontal_flip": 0.0}, [(), (-2,)]),
        ({"augment.enabled": False}, [()]),
    ],
)
def test_flips_are_those_of_training(
    settings: dict[str, object], expected: list[tuple[int, ...]]
) -> None:
    assert find_flips(override(Config(), settings)) == expected


class Gradient(nn.Module):
    """Logits that fall from left to right whatever the image is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * 0 + torch.linspace(2, -2, images.shape[-1])


def test_flips_are_undone_before_they_are_averaged() -> None:
    config = override(Config(), {"augment.vertical_flip": 0.0})
    networks = Networks({"a": Network(Gradient(), config)}, CPU)
    squares = torch.zeros((2, 4, 4), dtype=torch.uint8)
    plain, flipped = (networks.predict(squares, use_flips) for use_flips in (False, True))
    assert plain.shape == (1, 2, 1, 4, 4)
    assert plain[0, 0, 0, 0, 0] > 0.8
    torch.testing.assert_close(flipped, (plain + plain.flip(-1)) / 2)


def test_a_pretrained_network_is_restored_without_its_encoders_file(tmp_path: Path) -> None:
    config = ModelConfig("smp_unet", "resnet18", str(tmp_path / "gone.pth"))
    scratch = build_encoder_decoder(config, pretrained=False)
    assert isinstance(scratch, GreyInput)
    scratch.mean.fill_(0.4)
    restored = restore_model(config, scratch.state_dict())
    image = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(restored.eval()(image), scratch.eval()(image))
    with pytest.raises(ValueError, match="the weights do not fit fpn"):
        restore_model(replace(config, architecture="fpn"), scratch.state_dict())


def test_damaged_and_unlike_networks_are_refused(tmp_path: Path) -> None:
    paths = {}
    for size in (16, 32):
        config = override(Config(), SMALL | {"data.image_size": size})
        weights = restore_model_weights(config)
        paths[str(size)] = tmp_path / f"{size}.ckpt"
        save_checkpoint(paths[str(size)], {"model": weights, "config": asdict(config)})
    assert len(load_networks({"16": paths["16"]}).members) == 1
    with pytest.raises(ValueError, match="one size"):
        load_networks(paths)
    paths["32"].write_bytes(paths["32"].read_bytes()[:-50])
    with pytest.raises(ValueError, match="its checksum does not fit"):
        load_networks(paths)


def restore_model_weights(config: Config) -> dict[str, torch.Tensor]:
    from busi_tune.models import build_model

    return build_model(config.model).state_dict()
