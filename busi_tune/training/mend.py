"""What a cut power line or a full disk left of a training's files: named, and set aside.

The damaged file is renamed, and with it whatever it would make untrue; `fit` then makes the rest
anew from what is whole.
"""

import csv
import json
import logging
from pathlib import Path

import torch

from busi_tune import run_directory
from busi_tune.config import TrainingConfig
from busi_tune.evaluation.calibration import LOGITS
from busi_tune.run_directory import locked, remove_scraps, set_aside, was_set_aside
from busi_tune.training.checkpoint import load_checkpoint, read_checked
from busi_tune.training.history import Row, best_epoch, is_exhausted, planned_epochs

logger = logging.getLogger(__name__)

_TABLES = (
    run_directory.EPOCHS,
    run_directory.IMAGES,
    run_directory.THRESHOLDS,
    run_directory.LOGITS,
)
# Made after a training has ended, from its best checkpoint, and made again where it lacks.
_LATER = (run_directory.CLOSED_TEST,)


def mend_trainings(folder: Path) -> None:
    """Mend every training of a run; one at which another process works is left to that."""
    for training in sorted(path for path in folder.glob("*") if path.is_dir()):
        try:
            with locked(training):
                remove_scraps(training)
                mend_training(training)
        except TimeoutError:
            logger.info("%s is in use by another process", training)


def mend_training(folder: Path) -> None:
    """Set aside what is damaged in a training's folder; its lock is held.

    - result.json, or a table of a finished training: the training is without a result, and `fit`
      evaluates its best epoch again, or trains again where that or its epochs are not whole.
    - a checkpoint of an unfinished training: it starts again from its first epoch.

    The last checkpoint of a finished one, which was killed before it removed that, is removed. The
    best checkpoint of a finished training is not looked at: reading all of a run takes long.
    """
    for name in (run_directory.RESULT, run_directory.FAILURE):
        if (folder / name).exists() and not _is_json(folder / name):
            set_aside(folder / name, "is damaged")
    for name in _LATER:
        if _is_broken(folder / name):
            set_aside(folder / name, "is damaged")
    result = folder / run_directory.RESULT
    broken = [name for name in _TABLES if _is_broken(folder / name)]
    for name in broken:
        set_aside(folder / name, "is damaged")
    if result.exists():
        if broken or _lacks_rows(folder):
            set_aside(result, "has no longer all of its tables")
        else:
            (folder / run_directory.LAST_CHECKPOINT).unlink(missing_ok=True)  # killed before it was
            return
    _mend_checkpoints(folder)


def ended_rows(folder: Path, training: TrainingConfig) -> list[Row]:
    """Return the epochs of a training that has lost its result but not what that is made from.

    None where it has, or where further epochs are to be run. One that was stopped needs its table
    alone; any other is evaluated, with its best checkpoint.
    """
    best, table = folder / run_directory.BEST_CHECKPOINT, folder / run_directory.EPOCHS
    if not (was_set_aside(folder / run_directory.RESULT) and table.exists()):
        return []
    rows, stop = _read_rows(table), folder / run_directory.STOP
    ended = is_exhausted(rows, training.monitor, training.patience) or (
        len(rows) >= planned_epochs(rows, training)
    )
    if not ended:
        return rows if stop.exists() else []
    if best.exists():
        kept = load_checkpoint(best, torch.device("cpu"))["epoch"]
        if kept == best_epoch(rows, training.monitor):
            return rows
    stop.unlink(missing_ok=True)  # it came with the last epoch; now it would end the first
    return []


def _read_rows(table: Path) -> list[Row]:
    with table.open(newline="") as file:
        return [
            {name: float(value or "nan") for name, value in row.items()}
            | {"epoch": int(row["epoch"])}
            for row in csv.DictReader(file)
        ]


def _mend_checkpoints(folder: Path) -> None:
    last, best = folder / run_directory.LAST_CHECKPOINT, folder / run_directory.BEST_CHECKPOINT
    for path in (last, best):
        if path.exists() and not _is_checkpoint(path):
            set_aside(path, "is damaged")
    if last.exists() and not best.exists():
        set_aside(last, f"lacks its {best.name}, so the training starts again")


def _is_checkpoint(path: Path) -> bool:
    try:
        read_checked(path)
    except ValueError:
        return False
    return True


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except ValueError:
        return False


def _is_broken(path: Path) -> bool:
    """Tell whether a table breaks off or has a row that is not one."""
    if not path.exists():
        return False
    content = path.read_bytes()
    if b"\0" in content or not content.endswith(b"\n"):
        return True
    try:
        rows = list(csv.reader(content.decode().splitlines()))
    except (csv.Error, UnicodeDecodeError):
        return True
    return any(len(row) != len(rows[0]) for row in rows)


def _lacks_rows(folder: Path) -> bool:
    """Tell whether tables of a finished training are gone or were cut off between two rows."""
    result = json.loads((folder / run_directory.RESULT).read_text())
    epochs, images, thresholds, logits = (_num_rows(folder / name) for name in _TABLES)
    if result["status"] == "pruned" or result["best_value"] is None:  # nothing was evaluated
        return epochs == 0 and result["epochs"] > 0
    # Earlier versions wrote no thresholds, and no logits, which are of whole parts.
    lacking = thresholds not in (0, images) or logits % len(LOGITS) != 0
    return epochs == 0 or images == 0 or lacking


def _num_rows(path: Path) -> int:
    return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0
