"""What a training leaves: its result, and the evaluation of its best epoch."""

import dataclasses
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import nn

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.evaluation.evaluate import evaluate
from busi_tune.models import num_parameters
from busi_tune.run_directory import read_json, write_atomic
from busi_tune.training.epoch import autocast
from busi_tune.training.history import Row, best_epoch, is_converged, mean_rate
from busi_tune.training.ranks import num_ranks

Status = Literal["finished", "early_stopped", "pruned"]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The content of result.json."""

    status: Status
    monitor: str
    best_epoch: int
    """From 1; 0 where the training was stopped before its first epoch."""
    best_value: float | None
    epochs: int
    """Epochs run."""
    seconds: float
    """Wall time of all starts, validation and final evaluation included."""
    images_per_second: float
    """Of training, validation apart."""
    num_parameters: int
    num_workers: int
    device: str
    converged: bool
    """False where the curve still rises, see `history.is_converged`."""


def summarise(
    status: Status,
    rows: list[Row],
    seconds: float,
    config: Config,
    model: nn.Module,
    device: torch.device,
) -> FitResult:
    """Sum a training up from its epochs."""
    monitor, patience = config.training.monitor, config.training.patience
    best = best_epoch(rows, monitor)
    return FitResult(
        status=status,
        monitor=monitor,
        best_epoch=best,
        best_value=rows[best - 1][monitor] if best else None,
        epochs=len(rows),
        seconds=seconds,
        images_per_second=mean_rate(rows),
        num_parameters=num_parameters(model),
        num_workers=num_ranks(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        converged=is_converged(rows, monitor, patience),
    )


def read_result(folder: Path) -> FitResult | None:
    """Read the result of a training that has ended; None where it has not."""
    path = folder / run_directory.RESULT
    return FitResult(**read_json(path)) if path.exists() else None


def evaluate_parts(
    model: nn.Module,
    images: ImageSet,
    device_images: DeviceImages,
    split: Split,
    config: Config,
    folder: Path,
) -> None:
    """Evaluate validation and test part in original pixels: images.csv and the test's maps.

    A search keeps its test part closed and passes an empty one.
    """
    predictions = {"validation": None, "test": folder / run_directory.PREDICTIONS}
    tables = []
    for part, maps in predictions.items():
        if len(getattr(split, part)) == 0:
            continue
        with autocast(device_images.device, config):
            table = evaluate(
                model,
                images,
                device_images,
                getattr(split, part),
                threshold=config.training.threshold,
                batch_size=config.training.evaluation_batch_size,
                predictions=maps,
            )
        table.insert(1, "part", part)
        tables.append(table)
    write_atomic(folder / run_directory.IMAGES, pd.concat(tables).to_csv(index=False))
