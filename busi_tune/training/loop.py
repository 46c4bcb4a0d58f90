"""One training, from its folder's last checkpoint or from the start to its result."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.micro_batches import MicroBatches
from busi_tune.data.parallel import PhaseProgress
from busi_tune.data.seeds import derive_seed
from busi_tune.data.splits import Split, name_parts
from busi_tune.run_directory import write_atomic, write_json
from busi_tune.settings import training_key
from busi_tune.training.checkpoint import load_checkpoint, save_checkpoint
from busi_tune.training.epoch import check_weights, train_epoch, validate
from busi_tune.training.history import Row, best_epoch, count_plateaus, is_exhausted, planned_epochs
from busi_tune.training.learner import build_learner
from busi_tune.training.mend import ended_rows, mend_training
from busi_tune.training.optimizers import stretch_schedule
from busi_tune.training.ranks import agree, choose_device, num_ranks, rank
from busi_tune.training.result import (
    FitResult,
    Status,
    evaluate_parts,
    read_result,
    summarise_training,
)

logger = logging.getLogger(__name__)

OnEpochEnd = Callable[[dict[str, float]], bool]

LOCK_WAIT_SECONDS = 24 * 3600.0
"""How long a training waits for another of the same key: an orphan, or a twin, whose result it
then takes."""
RANKS_WAIT_SECONDS = 20 * 60.0
"""The same for the first of several ranks: the others wait for it in a collective, which Ray Train
ends after 30 minutes with an error that says nothing of the folder."""


def fit(
    config: Config,
    images: ImageSet,
    split: Split,
    folder: Path,
    on_epoch_end: OnEpochEnd | None = None,
    progress: PhaseProgress | None = None,
) -> FitResult:
    """Train, choose the best epoch on the validation part and evaluate it on it and the test part.

    With `data.split all` there is neither part: the last epoch is kept, and nothing is evaluated.
    Whatever an earlier process left in the folder is taken up: a result is returned as it is, a
    checkpoint is continued to exactly the bits of an uninterrupted run (on a CPU at equal thread
    count). What is damaged is set aside and made anew, see `mend_training`. The test part is only
    looked at after the last epoch.

    With `training.max_seconds` the number of epochs, and the learning rate's schedule with it, is
    fitted after each epoch to the time that is left, so the result depends on the machine's speed
    and on what else it does. All starts count, so does the time before the first epoch; the
    evaluation at the end comes on top.

    Where `torch.distributed` is initialised, this is one rank of several. Each global batch of
    `training.batch_size` is dealt to the ranks; gradients, losses and counts are summed, and rank
    0 alone writes. A network without batch statistics and dropout then gets one process's
    gradients. With batch norm each rank normalises its share of the batch by that share's own
    statistics, as with smaller batches, unless `training.sync_batchnorm` is on (GPU); running
    statistics are averaged at the end of an epoch. The loss `batch_dice` pools a rank's share.

    Where memory runs out, the step is done again with its batches in two parts, or more, down to
    single images, and so are all later ones; gradients are summed over the parts, so that a step
    stays that of the whole batch. Batch norm and `batch_dice` then see a part at a time. Ranks
    find this out each for itself and agree after the epoch; with `training.sync_batchnorm` they
    cannot, so there it ends the training. Batches of an evaluation are split likewise.

    With `training.compile` the network is trained compiled, and evaluated and kept as it is.

    Args:
        config: the resolved configuration.
        images: the decoded set, at `data.image_size`.
        split: indices into the set; the test part may be empty, as a search's is.
        folder: the training's own folder; rank 0 alone needs to see it.
        on_epoch_end: called on every rank with the epoch's row of epochs.csv once its checkpoint
            is written, and on a new start once more with the last such row. Rank 0's True ends
            the training as pruned, without an evaluation, unless that epoch was the last anyway;
            so does a file `stop` that lies in the folder at the start.
        progress: called after each image of the evaluation at the end.

    Raises:
        ValueError: the split or the folder's checkpoint does not fit.
        FloatingPointError: a loss was not finite, or with `data.split all` the weights were not;
            the last checkpoint is of the epoch before.
        TimeoutError: another process trains in this folder.
        torch.OutOfMemoryError: a single image does not fit.
    """
    _check_split(split, images, config)
    leads = rank() == 0
    with _locked(folder) if leads else contextlib.nullcontext():
        if leads:
            mend_training(folder)
        result = agree(read_result(folder) if leads else None)
        if result is None:
            result = _Training(config, images, split, folder, on_epoch_end).run(progress)
        if leads:
            (folder / run_directory.LAST_CHECKPOINT).unlink(missing_ok=True)
    return result


def _locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    if num_ranks() == 1:
        return run_directory.locked(folder, LOCK_WAIT_SECONDS)
    wait = RANKS_WAIT_SECONDS
    why = f"the other workers of this training cannot wait for it longer than {wait / 60:g} minutes"
    return run_directory.locked(folder, wait, why)


class _Training:
    """A training under way."""

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
        steps = -(-batches // config.training.accumulate)
        self.learner = build_learner(config, self.device, steps_per_epoch=steps)
        self.key = training_key(config, images.data_hash, name_parts(split, images))
        self.validation_parts = MicroBatches("validation")
        self.rows: list[Row] = []

    def run(self, progress: PhaseProgress | None) -> FitResult:
        """Train to the end, then evaluate, then write the result."""
        self._resume()
        status = self._run_epochs()
        measured = None
        if rank() == 0 and status != "pruned" and len(self.split.validation):
            model = self.learner.evaluated
            best = load_checkpoint(self.folder / run_directory.BEST_CHECKPOINT, self.device)
            model.load_state_dict(best["model"])
            measured = evaluate_parts(
                model,
                self.images,
                self.device_images,
                self.split,
                self.config,
                self.folder,
                progress,
            )
        measured = agree(measured)
        result = summarise_training(
            status, self.rows, self._seconds(), self.config, self.learner, self.device, measured
        )
        if rank() == 0:
            write_json(self.folder / run_directory.RESULT, dataclasses.asdict(result))
        return result

    def _resume(self) -> None:
        path = self.folder / run_directory.LAST_CHECKPOINT
        state = None
        if rank() == 0 and path.exists():
            state = load_checkpoint(path, torch.device("cpu"))
            if state["key"] != self.key:
                raise ValueError(
                    f"{path} belongs to a training with other settings, images, split or seed; "
                    f"name another folder, or delete {self.folder}"
                )
        elif rank() == 0:
            state = {"rows": ended_rows(self.folder, self.config.training)}
        state = agree(state)
        if state is not None and state["rows"]:
            self.rows = state["rows"]
            if "learner" in state:
                self.learner.load_state_dict(state["learner"])
            self.began -= self.rows[-1]["seconds"]
            if rank() == 0:
                self._save_table()
            logger.info("resumed after epoch %d from %s", len(self.rows), self.folder)

    def _run_epochs(self) -> Status:
        training = self.config.training
        stop = (self.folder / run_directory.STOP).exists()
        planned = self._plan()
        stop = agree((bool(self.rows) and self._report()) or stop)
        while True:
            if is_exhausted(self.rows, training.monitor, training.patience):
                return "early_stopped"
            if len(self.rows) >= planned:
                return "finished"
            if stop:
                return "pruned"
            self.rows.append(self._run_epoch(len(self.rows) + 1))
            planned = self._plan()
            if rank() == 0:
                self._save()
            stop = agree(self._report())

    def _plan(self) -> int:
        """Return the number of epochs of the whole training, and fit the schedule to it."""
        training, optimizer = self.config.training, self.config.optimizer
        plateaus = 0
        if optimizer.schedule == "plateau":
            plateaus = count_plateaus(
                self.rows, training.monitor, optimizer.plateau_patience, optimizer.warmup_epochs
            )
        planned = agree(planned_epochs(self.rows, training))
        stretch_schedule(self.learner.schedule, planned, plateaus)
        return planned

    def _run_epoch(self, epoch: int) -> Row:
        config, learner, parts = self.config, self.learner, self.split
        began, lr = time.monotonic(), learner.lr
        torch.manual_seed(derive_seed("dropout", config.seed, epoch, rank()))
        trained = train_epoch(learner, self.device_images, parts.train, config, epoch)
        seconds = time.monotonic() - began
        validated: Row = {}
        if len(parts.validation):
            validated = validate(
                learner.evaluated,
                self.device_images,
                parts.validation,
                config,
                epoch,
                self.validation_parts,
            )
        else:
            check_weights(learner.evaluated, epoch)
        # Of augmented images the share with a lesion changes with every crop.
        del trained["dice_tumour"]
        return {
            "epoch": epoch,
            "lr": lr,
            "seconds": self._seconds(),
            "images_per_second": len(parts.train) / seconds,
            **{f"train_{name}": value for name, value in trained.items()},
            **{f"val_{name}": value for name, value in validated.items()},
        }

    def _save(self) -> None:
        """Write the best weights, then the state, then the table.

        A kill after the first repeats the epoch, to the same bits.
        """
        epoch = len(self.rows)
        if best_epoch(self.rows, self.config.training.monitor) == epoch:
            best = {"epoch": epoch, "model": self.learner.evaluated.state_dict()}
            best["config"] = dataclasses.asdict(self.config)
            save_checkpoint(self.folder / run_directory.BEST_CHECKPOINT, best)
        state = {"key": self.key, "rows": self.rows, "learner": self.learner.state_dict()}
        save_checkpoint(self.folder / run_directory.LAST_CHECKPOINT, state)
        self._save_table()

    def _save_table(self) -> None:
        table = pd.DataFrame(self.rows).to_csv(index=False)
        write_atomic(self.folder / run_directory.EPOCHS, table)

    def _report(self) -> bool:
        return self.on_epoch_end is not None and bool(self.on_epoch_end(dict(self.rows[-1])))

    def _seconds(self) -> float:
        return time.monotonic() - self.began


def _check_split(split: Split, images: ImageSet, config: Config) -> None:
    for part in ("train", "validation"):
        needed = part == "train" or config.data.split != "all"
        if needed and len(getattr(split, part)) == 0:
            raise ValueError(f"the {part} part of the split is empty; use more images")
    if not len(split.validation):
        return
    has_lesion = images.masks[split.validation].any()
    if config.training.monitor == "val_dice_tumour" and not has_lesion:
        raise ValueError(
            "training.monitor is val_dice_tumour, but no validation image has a lesion; use "
            "val_dice"
        )
