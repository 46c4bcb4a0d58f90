from pathlib import Path
from typing import Any

import pytest
import torch

from busi_tune.config import Config
from busi_tune.models import num_parameters
from busi_tune.settings import override
from busi_tune.training.checkpoint import save_checkpoint
from busi_tune.training.disk import checkpoint_bytes, remove_checkpoints
from busi_tune.training.learner import build_learner

LITE0 = {"model.architecture": "smp_unet", "model.encoder": "tu-tf_efficientnet_lite0"}


@pytest.mark.parametrize(
    "settings",
    [
        {"model.architecture": "report_cnn"},
        {"model.base_width": 16, "optimizer.name": "adamw", "training.ema_decay": 0.9},
        {"model.base_width": 16, "optimizer.name": "sgd", "optimizer.momentum": 0.0},
        LITE0 | {"optimizer.name": "sgd"},
        {"model.base_width": 8, "optimizer.name": "nadam"},
        {"model.base_width": 8, "optimizer.name": "rmsprop"},
        {"model.base_width": 8, "optimizer.name": "rmsprop", "optimizer.momentum": 0.0},
    ],
)
def test_the_forecast_is_near_the_size_of_the_files(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = override(Config(), settings)
    learner = build_learner(config, torch.device("cpu"), steps_per_epoch=1)
    for weight in learner.model.parameters():
        weight.grad = torch.zeros_like(weight)
    learner.step()
    save_checkpoint(tmp_path / "last.ckpt", {"learner": learner.state_dict()})
    save_checkpoint(tmp_path / "best.ckpt", {"model": learner.evaluated.state_dict()})
    num_buffers = sum(buffer.numel() for buffer in learner.model.buffers())
    forecast = checkpoint_bytes(num_parameters(learner.model), num_buffers, config)
    assert forecast.last == pytest.approx((tmp_path / "last.ckpt").stat().st_size, rel=0.2)
    assert forecast.best == pytest.approx((tmp_path / "best.ckpt").stat().st_size, rel=0.2)


def test_checkpoints_go_and_everything_else_stays(tmp_path: Path) -> None:
    for name in ("last.ckpt", "best.ckpt", "result.json"):
        (tmp_path / name).touch()
    for _ in range(2):
        remove_checkpoints(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
