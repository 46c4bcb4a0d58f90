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
from busi_tune.data.parallel import PhaseProgress, in_phase
from busi_tune.data.splits import Split
from busi_tune.evaluation.evaluate import evaluate
from busi_tune.evaluation.operating_point import OperatingPoint
from busi_tune.models import num_parameters
from busi_tune.run_directory import read_json, write_atomic
from busi_tune.training.epoch import autocast
from busi_tune.training.history import Row, best_epoch, is_converged, mean_rate
from busi_tune.training.learner import Learner
from busi_tune.training.ranks import num_ranks

Status = Literal["finished", "early_stopped", "pruned"]

_PART_PLACES = {run_directory.IMAGES: 1, run_directory.THRESHOLDS: 3, run_directory.LOGITS: 0}
"""The tables of an evaluation, and where in them the column `part` comes."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The content of result.json."""

    status: Status
    monitor: str
    best_epoch: int
    """From 1; 0 where the training was stopped before its first epoch."""
    best_value: float | None
    """None also where nothing was validated."""
    epochs: int
    """Epochs run."""
    seconds: float
    """Wall time of all starts, validation and final evaluation included."""
    images_per_second: float
    """Of training, validation apart."""
    num_parameters: int
    num_workers: int
    device: str
    converged: bool | None
    """False where the curve may still rise, None without validation; `history.is_converged`."""
    milliseconds_per_image: float | None = None
    """Forward passes over the validation part, in batches of `training.evaluation_batch_size`;
    None, as are the next two, where nothing was evaluated, and in results of earlier versions."""
    tuned_threshold: float | None = None
    """Chosen on the validation part, as is the next."""
    tuned_component_px: int | None = None
    """Smallest component kept, pixels of the original image."""
    compiled: bool = False
    """Whether the network was trained compiled."""
    micro_batches: int = 1
    """Parts in which a batch was trained, because its images did not fit into memory at once."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the validation part tells at the end, beside a row per image."""

    point: OperatingPoint
    milliseconds_per_image: float


def summarise_training(
    status: Status,
    rows: list[Row],
    seconds: float,
    config: Config,
    learner: Learner,
    device: torch.device,
    measured: Measured | None,
) -> FitResult:
    """Sum a training up from its epochs and what was measured after them."""
    monitor, patience = config.training.monitor, config.training.patience
    best = best_epoch(rows, monitor)
    return FitResult(
        status=status,
        monitor=monitor,
        best_epoch=best,
        best_value=rows[best - 1].get(monitor) if best else None,
        epochs=len(rows),
        seconds=seconds,
        images_per_second=mean_rate(rows),
        num_parameters=num_parameters(learner.model),
        num_workers=num_ranks(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        converged=is_converged(rows, monitor, patience),
        tuned_threshold=measured.point.threshold if measured else None,
        tuned_component_px=measured.point.component_px if measured else None,
        milliseconds_per_image=measured.milliseconds_per_image if measured else None,
        compiled=learner.is_compiled,
        micro_batches=learner.micro_batches.number,
    )


def read_result(folder: Path) -> FitResult | None:
    """Read the result of a training that has ended; None where it has not.

    Of a result of another version, what it lacks is None and what is unknown is left out.
    """
    path = folder / run_directory.RESULT
    if not path.exists():
        return None
    known = {field.name for field in dataclasses.fields(FitResult)}
    return FitResult(**{name: value for name, value in read_json(path).items() if name in known})


def evaluate_parts(
    model: nn.Module,
    images: ImageSet,
    device_images: DeviceImages,
    split: Split,
    config: Config,
    folder: Path,
    progress: PhaseProgress | None = None,
) -> Measured:
    """Evaluate the validation part and then the test part, in original pixels.

    Returns what the validation part tells, the operating point among it: it is chosen before the
    test part is looked at. Writes images.csv, thresholds.csv, logits.csv and the test's maps. A
    search passes an empty test part.

    Raises:
        ValueError: the validation part is empty.
    """
    if len(split.validation) == 0:
        raise ValueError(
            "the operating point is chosen on the validation part, which must have images, got 0: "
            "use more images, it is never chosen on the test part"
        )
    measured: Measured | None = None
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in _PART_PLACES}
    for part, maps in (("validation", None), ("test", folder / run_directory.PREDICTIONS)):
        if len(getattr(split, part)) == 0:
            continue
        with autocast(device_images.device, config):
            evaluation = evaluate(
                model,
                images,
                device_images,
                getattr(split, part),
                threshold=config.training.threshold,
                batch_size=config.training.evaluation_batch_size,
                point=measured.point if measured else None,
                predictions=maps,
                progress=in_phase(progress, f"evaluation, {part} part"),
            )
        measured = measured or Measured(evaluation.point, evaluation.milliseconds_per_image)
        found = (evaluation.images, evaluation.thresholds, evaluation.logits)
        for (name, place), table in zip(_PART_PLACES.items(), found, strict=True):
            table.insert(place, "part", part)
            tables[name].append(table)
    for name, parts in tables.items():
        write_atomic(folder / name, pd.concat(parts).to_csv(index=False))
    assert measured is not None
    return measured
