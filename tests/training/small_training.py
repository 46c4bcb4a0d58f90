"""A training small enough to be run dozens of times: 20 images of 16 pixels, tiny networks."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from busi_tune.config import Config, ModelConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.settings import override
from busi_tune.training.checkpoint import load_checkpoint

SIZE = 16
CPU = torch.device("cpu")
CLOCK = ("seconds", "images_per_second", "milliseconds_per_image")
SPLIT = Split(train=np.arange(10), validation=np.arange(10, 15), test=np.arange(15, 20))


def make_images() -> ImageSet:
    """Bright lesions on dark noise; every fifth image has none."""
    generator = np.random.default_rng(0)
    masks = np.zeros((20, SIZE, SIZE), dtype=np.uint8)
    for index in range(20):
        if index % 5:
            top, left = generator.integers(0, SIZE // 2, 2)
            masks[index, top : top + 6, left : left + 8] = 1
    noise = generator.integers(0, 100, masks.shape)
    packed = np.packbits(masks.reshape(20, -1), axis=1)
    names = tuple(f"image {index}" for index in range(20))
    return ImageSet(
        names=names,
        labels=tuple("benign" if index % 5 else "normal" for index in range(20)),
        groups=names,
        image_size=SIZE,
        data_hash="small",
        images=(noise + 120 * masks).astype(np.uint8),
        masks=masks,
        sizes=np.full((20, 2), SIZE, dtype=np.int32),
        packed_masks=packed.ravel(),
        offsets=np.arange(21) * packed.shape[1],
    )


def build_plain(config: ModelConfig) -> nn.Module:
    """Without batch statistics and dropout."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ELU(), nn.Conv2d(4, 1, 3, padding=1))


def build_noisy(config: ModelConfig) -> nn.Module:
    """With both."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Dropout2d(0.5),
        nn.ELU(),
        nn.Conv2d(4, 1, 3, padding=1),
    )


class Greedy(nn.Module):
    """Fits `limit` images into memory at once: in the forward pass, or in training's backward."""

    def __init__(self, limit: int, where: str = "forward") -> None:
        super().__init__()
        self.limit, self.where = limit, where
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        features = nn.functional.elu(self.first(images))
        if self.where == "backward":
            # When this fails, the last layer already has its gradients.
            return self.last(_NoMemoryBackwards.apply(features, self.limit))
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("no memory left")
        return self.last(features)


class _NoMemoryBackwards(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: torch.Tensor, limit: int) -> torch.Tensor:
        context.limit = limit
        return features.clone()

    @staticmethod
    def backward(context: Any, gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        if len(gradients) > context.limit:
            raise torch.OutOfMemoryError("no memory left")
        return gradients, None


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights that a training kept."""
    weights: dict[str, torch.Tensor] = load_checkpoint(folder / "best.ckpt", CPU)["model"]
    return weights


def assert_same_weights(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Compare weights bit by bit, names and their order included."""
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


NETWORKS = {"plain": build_plain, "noisy": build_noisy}
"""For models.ARCHITECTURES while a test runs."""


def make_config(**settings: Any) -> Config:
    """Return a configuration of everything that a resumed training has to bring back."""
    return override(
        Config(),
        {
            "model.architecture": "noisy",
            "optimizer.lr": 0.01,
            "optimizer.schedule": "cosine",
            "optimizer.warmup_epochs": 0.5,
            "training.epochs": 4,
            "training.batch_size": 3,
            "training.accumulate": 2,
            "training.clip_norm": 1.0,
            "training.ema_decay": 0.9,
            "training.evaluation_batch_size": 2,
            "training.device": "cpu",
        }
        | {name.replace("__", "."): value for name, value in settings.items()},
    )


class Recorder:
    """Keeps what `fit` tells and stores at every epoch; may stop or break the training."""

    def __init__(self, folder: Path, stop_at: int = 0, break_at: int = 0) -> None:
        self.folder, self.stop_at, self.break_at = folder, stop_at, break_at
        self.rows: list[dict[str, float]] = []
        self.states: list[dict[str, Any]] = []

    def __call__(self, metrics: dict[str, float]) -> bool:
        self.rows.append(metrics)
        if (self.folder / "last.ckpt").exists():
            self.states.append(load_checkpoint(self.folder / "last.ckpt", CPU))
        if metrics["epoch"] == self.break_at:
            raise KeyboardInterrupt
        return metrics["epoch"] == self.stop_at

    def numbers(self) -> list[dict[str, float]]:
        """The rows without what a clock measured."""
        return [without_clock(row) for row in self.rows]


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a clock measured."""
    return {name: value for name, value in row.items() if name not in CLOCK}
