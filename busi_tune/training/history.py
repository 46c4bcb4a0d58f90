"""What the rows of epochs.csv say: the best epoch, whether to go on, whether it converged.

All of it is computed from the rows, which are in the checkpoint, so nothing else has to be saved.
"""

import math
from collections.abc import Sequence

from busi_tune.config import TrainingConfig

Row = dict[str, float]


def best_epoch(rows: Sequence[Row], monitor: str) -> int:
    """Return the epoch, from 1, with the best monitor, the earliest of equals; 0 without rows.

    Where nothing was validated, rows have no monitor and the last epoch counts as the best.
    """
    sign = -1 if monitor == "val_loss" else 1
    if not rows:
        return 0
    if monitor not in rows[0]:
        return len(rows)
    return int(max(rows, key=lambda row: (sign * row[monitor], -row["epoch"]))["epoch"])


def is_exhausted(rows: Sequence[Row], monitor: str, patience: int) -> bool:
    """Tell whether the monitor has not become better for `patience` epochs; never where it is 0."""
    return patience > 0 and len(rows) - best_epoch(rows, monitor) >= patience


def count_plateaus(rows: Sequence[Row], monitor: str, patience: int, warmup_epochs: float) -> int:
    """Count how often the monitor has not become better for `patience` epochs.

    Each time the count of epochs starts again; those with a part of the warm-up do not count.
    """
    sign = -1 if monitor == "val_loss" else 1
    best, waited, plateaus = -math.inf, 0, 0
    for row in rows:
        if sign * row[monitor] > best:
            best, waited = sign * row[monitor], 0
        elif row["epoch"] - 1 >= warmup_epochs:
            waited += 1
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus


def planned_epochs(rows: Sequence[Row], training: TrainingConfig) -> int:
    """Return the number of epochs that fit into `max_seconds` at the mean pace so far.

    The first epoch is never in question, and what has been run stays planned.
    """
    return fitting_epochs(len(rows), rows[-1]["seconds"] if rows else 0.0, training)


def fitting_epochs(done: int, seconds: float, training: TrainingConfig) -> int:
    """Return the number of planned epochs after some of them, which took these seconds in all."""
    if not done or not training.max_seconds:
        return training.epochs
    return max(done, min(training.epochs, int(training.max_seconds * done / seconds)))


def is_converged(rows: Sequence[Row], monitor: str, patience: int) -> bool | None:
    """Tell whether the curve has stopped to rise; None where there is none, without validation.

    It has where patience ended the training, or where the best epoch lies before the last fifth
    (at least the last two) of the epochs run.
    """
    if rows and monitor not in rows[0]:
        return None
    if is_exhausted(rows, monitor, patience):
        return True
    return 0 < best_epoch(rows, monitor) <= len(rows) - max(2, len(rows) // 5)


def mean_rate(rows: Sequence[Row]) -> float:
    """Return the images per second of training over all epochs, which have equally many images."""
    return len(rows) / sum(1 / row["images_per_second"] for row in rows) if rows else 0.0
