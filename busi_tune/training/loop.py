"""One training, from its folder's last checkpoint or from the start to its result."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.seeds import derive_seed
from busi_tune.data.splits import Split
from busi_tune.evaluation.evaluate import evaluate
from busi_tune.models import num_parameters
from busi_tune.run_directory import write_atomic, write_json
from busi_tune.settings import training_key
from busi_tune.training.checkpoint import load_checkpoint, save_checkpoint
from busi_tune.training.epoch import autocast, train_epoch, validate
from busi_tune.training.history import Row, best_epoch, is_converged, is_exhausted, mean_rate
from busi_tune.training.learner import Learner, build_learner
from busi_tune.training.ranks import agree, choose_device, num_ranks, rank

logger = logging.getLogger(__name__)

OnEpochEnd = Callable[[dict[str, float]], bool]
Status = Literal["finished", "early_stopped", "pruned"]

LOCK_WAIT_SECONDS = 60.0
"""How long a successor waits for the orphan of a killed process to end."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What result.json says of a training."""

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


def fit(
    config: Config,
    images: ImageSet,
    split: Split,
    folder: Path,
    on_epoch_end: OnEpochEnd | None = None,
) -> FitResult:
    """Train, choose the best epoch on the validation part and evaluate it on both other parts.

    Whatever an earlier process left in the folder is taken up: a result is returned as it is, a
    checkpoint is continued to exactly the bits of an uninterrupted run (on a CPU at equal thread
    count). The test part is only looked at after the last epoch.

    Where `torch.distributed` is initialised, this is one rank of several. Each global batch of
    `training.batch_size` is dealt to the ranks, gradients, losses and counts are summed, and rank
    0 alone writes. A network without batch statistics and dropout then gets one process's
    gradients. With batch norm each rank normalises its part of the batch by that part's own
    statistics, as with smaller batches, unless `training.sync_batchnorm` is on (GPU); running
    statistics are averaged at the end of an epoch. The loss `batch_dice` pools a rank's part.

    Args:
        config: the resolved configuration.
        images: the decoded set, at `data.image_size`.
        split: indices into the set.
        folder: the training's own folder, seen by rank 0 at least.
        on_epoch_end: called on every rank with the epoch's row of epochs.csv after its checkpoint
            is written, and on a new start once more with the last such row; rank 0's True ends
            the training as pruned, without an evaluation. So does a file `stop` in the folder at
            the start.

    Raises:
        ValueError: the split or the folder's checkpoint does not fit, or a checkpoint is damaged.
        FloatingPointError: a loss was not finite; the last checkpoint is from the epoch before.
        TimeoutError: another process trains in this folder.
    """
    _check_split(split, images, config)
    lock = run_directory.locked(folder, LOCK_WAIT_SECONDS) if rank() == 0 else None
    with lock or contextlib.nullcontext():
        result = agree(_read_result(folder) if rank() == 0 else None)
        if result is None:
            result = _Training(config, images, split, folder, on_epoch_end).run()
        if rank() == 0:
            (folder / run_directory.LAST_CHECKPOINT).unlink(missing_ok=True)
        return result


class _Training:
    """A training under way, under the folder's lock."""

    def __init__(
        self,
        config: Config,
        images: ImageSet,
        split: Split,
        folder: Path,
        on_epoch_end: OnEpochEnd | None,
    ) -> None:
        self.began = time.monotonic()
        self.config, self.images, self.split, self.folder = config, images, split, folder
        self.on_epoch_end = on_epoch_end
        self.device = choose_device(config.training.device)
        self.device_images = DeviceImages(images, self.device)
        batches = -(-len(split.train) // config.training.batch_size)
        self.learner: Learner = build_learner(
            config, self.device, steps_per_epoch=-(-batches // config.training.accumulate)
        )
        parts = {
            part: [images.names[index] for index in getattr(split, part)]
            for part in ("train", "validation", "test")
        }
        self.key = training_key(config, images.data_hash, parts)
        self.rows: list[Row] = []
        self._resume()

    def run(self) -> FitResult:
        status = self._run_epochs()
        if rank() == 0 and status != "pruned":
            self._evaluate()
        result = self._result(status)
        if rank() == 0:
            write_json(self.folder / run_directory.RESULT, dataclasses.asdict(result))
        return result

    def _run_epochs(self) -> Status:
        training = self.config.training
        stop = (self.folder / run_directory.STOP).exists()
        stop = agree((bool(self.rows) and self._report()) or stop)
        while not stop:
            if is_exhausted(self.rows, training.monitor, training.patience):
                return "early_stopped"
            if len(self.rows) >= training.epochs:
                return "finished"
            self.rows.append(self._run_epoch(len(self.rows) + 1))
            if rank() == 0:
                self._save()
            stop = agree(self._report())
        return "pruned"

    def _run_epoch(self, epoch: int) -> Row:
        config, learner, indices = self.config, self.learner, self.split.train
        started, lr = time.monotonic(), learner.lr
        torch.manual_seed(derive_seed("dropout", config.seed, epoch, rank()))
        trained = train_epoch(learner, self.device_images, indices, len(self.images), config, epoch)
        seconds = time.monotonic() - started
        validated = validate(learner.evaluated, self.device_images, self.split.validation, config)
        if not np.isfinite(validated["loss"]):
            raise FloatingPointError(
                f"the validation loss is not finite after epoch {epoch}; lower optimizer.lr, or "
                "set training.clip_norm"
            )
        del trained["dice_tumour"]
        return {
            "epoch": epoch,
            "lr": lr,
            "seconds": self._seconds(),
            "images_per_second": len(indices) / seconds,
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"val_{name}": value for name, value in validated.items()},
        }

    def _save(self) -> None:
        """Write what the epoch left: the best weights, the state, the table, in this order.

        A kill between the first two repeats the epoch to the same bits.
        """
        epoch = len(self.rows)
        if best_epoch(self.rows, self.config.training.monitor) == epoch:
            save_checkpoint(
                self.folder / run_directory.BEST_CHECKPOINT,
                {
                    "model": self.learner.evaluated.state_dict(),
                    "epoch": epoch,
                    "config": dataclasses.asdict(self.config),
                },
            )
        save_checkpoint(
            self.folder / run_directory.LAST_CHECKPOINT,
            {"key": self.key, "rows": self.rows, "learner": self.learner.state_dict()},
        )
        write_atomic(
            self.folder / run_directory.EPOCHS, pd.DataFrame(self.rows).to_csv(index=False)
        )

    def _resume(self) -> None:
        path = self.folder / run_directory.LAST_CHECKPOINT
        state = None
        if rank() == 0 and path.exists():
            state = load_checkpoint(path, torch.device("cpu"))
            if state["key"] != self.key:
                raise ValueError(
                    f"{path} belongs to a training with other settings, images or seed; name "
                    "another folder, or delete this one"
                )
        state = agree(state)
        if state is not None:
            self.rows = state["rows"]
            self.learner.load_state_dict(state["learner"])
            self.began -= self.rows[-1]["seconds"]
            logger.info("resumed after epoch %d from %s", len(self.rows), path)

    def _report(self) -> bool:
        if self.on_epoch_end is None:
            return False
        return bool(self.on_epoch_end(dict(self.rows[-1])))

    def _evaluate(self) -> None:
        """Evaluate the best epoch on validation and test part; write images.csv, predictions."""
        path = self.folder / run_directory.BEST_CHECKPOINT
        model, training = self.learner.evaluated, self.config.training
        model.load_state_dict(load_checkpoint(path, self.device)["model"])
        tables = []
        for part, folder in (
            ("validation", None),
            ("test", self.folder / run_directory.PREDICTIONS),
        ):
            if len(getattr(self.split, part)) == 0:
                continue  # a search keeps its test part closed
            with autocast(self.device, self.config):
                table = evaluate(
                    model,
                    self.images,
                    self.device_images,
                    getattr(self.split, part),
                    threshold=training.threshold,
                    batch_size=training.evaluation_batch_size,
                    predictions=folder,
                )
            table.insert(1, "part", part)
            tables.append(table)
        write_atomic(self.folder / run_directory.IMAGES, pd.concat(tables).to_csv(index=False))

    def _result(self, status: Status) -> FitResult:
        training, rows = self.config.training, self.rows
        best = best_epoch(rows, training.monitor)
        on_gpu = self.device.type == "cuda"
        return FitResult(
            status=status,
            monitor=training.monitor,
            best_epoch=best,
            best_value=rows[best - 1][training.monitor] if best else None,
            epochs=len(rows),
            seconds=self._seconds(),
            images_per_second=mean_rate(rows),
            num_parameters=num_parameters(self.learner.model),
            num_workers=num_ranks(),
            device=torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            converged=is_converged(rows, training.monitor, training.patience),
        )

    def _seconds(self) -> float:
        return time.monotonic() - self.began


def _read_result(folder: Path) -> FitResult | None:
    path = folder / run_directory.RESULT
    return FitResult(**json.loads(path.read_text())) if path.exists() else None


def _check_split(split: Split, images: ImageSet, config: Config) -> None:
    for part in ("train", "validation"):
        if len(getattr(split, part)) == 0:
            raise ValueError(f"the {part} part of the split is empty; use more images")
    has_lesion = images.masks[split.validation].any()
    if config.training.monitor == "val_dice_tumour" and not has_lesion:
        raise ValueError(
            "training.monitor is val_dice_tumour, but no validation image has a lesion; use "
            "val_dice"
        )
