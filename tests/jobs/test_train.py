"""What a training in this process says of itself."""

import logging
import re
from typing import Any

import pytest

from busi_tune.config import Config
from busi_tune.jobs.train import log_epoch
from busi_tune.settings import override


@pytest.mark.parametrize(
    ("settings", "epoch", "said"),
    [
        ({"epochs": 50}, 3, "epoch 3 of 50: train loss 0.5000, val Dice 0.2500, about 15:40 left"),
        ({"epochs": 3}, 3, "epoch 3 of 3: train loss 0.5000, val Dice 0.2500"),
        # 20 seconds an epoch leave time for 5.
        ({"epochs": 50, "max_seconds": 119}, 3, "epoch 3 of 5: .*, about 0:40 left"),
        ({"epochs": 50, "max_seconds": 10}, 1, "epoch 1 of 1: train loss 0.5000, val Dice 0.2500"),
    ],
)
def test_an_epoch_says_of_how_many_it_is_and_what_is_left(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any], epoch: int, said: str
) -> None:
    caplog.set_level(logging.INFO)
    config = override(Config(), {f"training.{name}": value for name, value in settings.items()})
    metrics = {"epoch": epoch, "seconds": 20.0 * epoch, "train_loss": 0.5, "val_dice": 0.25}
    assert not log_epoch(metrics, config.training)
    (message,) = caplog.messages
    assert re.fullmatch(said, message)
