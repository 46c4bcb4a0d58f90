"""How a training computes: accumulation, precision, layout, with and without augmentation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from busi_tune.config import ModelConfig
from busi_tune.models import ARCHITECTURES
from busi_tune.training.loop import fit
from tests.training.small_training import (
    SPLIT,
    best_weights,
    build_plain,
    make_config,
    make_images,
)

pytestmark = pytest.mark.usefixtures("networks", "one_thread")


def test_accumulated_batches_move_the_weights_as_one_of_their_size(tmp_path: Path) -> None:
    plain = {"model__architecture": "plain", "training__epochs": 1, "optimizer__name": "sgd"}
    fit(make_config(**plain, training__batch_size=10, training__accumulate=1),
        make_images(), SPLIT, tmp_path / "whole")  # fmt: skip
    fit(make_config(**plain, training__batch_size=4, training__accumulate=3),
        make_images(), SPLIT, tmp_path / "parts")  # fmt: skip
    whole, parts = best_weights(tmp_path / "whole"), best_weights(tmp_path / "parts")
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (torch.float32, False)),
        ({"training__precision": "bf16"}, (torch.bfloat16, False)),
        ({"training__channels_last": True}, (torch.float32, True)),
    ],
)
def test_precision_and_layout_are_those_of_the_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    expected: tuple[torch.dtype, bool],
) -> None:
    seen = set()

    def look(layer: nn.Module, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen.add((output.dtype, given[0].is_contiguous(memory_format=torch.channels_last)))

    def build(config: ModelConfig) -> nn.Module:
        model = build_plain(config)
        model[2].register_forward_hook(look)
        return model

    monkeypatch.setitem(ARCHITECTURES, "plain", build)
    config = make_config(model__architecture="plain", training__epochs=1, **settings)
    assert fit(config, make_images(), SPLIT, tmp_path).status == "finished"
    assert seen == {expected}


def test_a_training_without_augmentation_ends(tmp_path: Path) -> None:
    config = make_config(training__epochs=1, augment__enabled=False)
    assert fit(config, make_images(), SPLIT, tmp_path).status == "finished"
