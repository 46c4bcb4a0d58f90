"""The disk that a training's checkpoints take."""

from dataclasses import dataclass
from pathlib import Path

from busi_tune import run_directory
from busi_tune.config import Config

_NUMBER_BYTES = 4
_MOMENTS = {"adam": 2, "adamw": 2, "nadam": 2, "rmsprop": 1, "sgd": 0}
_WITH_MOMENTUM = ("rmsprop", "sgd")


@dataclass(frozen=True)
class CheckpointBytes:
    """Sizes of a training's two checkpoints; both lie there until it ends, then `best` alone."""

    last: int
    best: int


def checkpoint_bytes(num_parameters: int, num_buffers: int, config: Config) -> CheckpointBytes:
    """Forecast the checkpoints of a network from its numbers, without building an optimiser.

    Args:
        num_parameters: trainable weights.
        num_buffers: running statistics and the like, each one number.
        config: the training's; its optimiser and moving average count.
    """
    network = _NUMBER_BYTES * (num_parameters + num_buffers)
    optimizer = config.optimizer
    momentum = optimizer.name in _WITH_MOMENTUM and optimizer.momentum > 0
    moments = _MOMENTS[optimizer.name] + momentum
    averages = 1 if config.training.ema_decay else 0
    last = network * (1 + averages) + _NUMBER_BYTES * moments * num_parameters
    return CheckpointBytes(last=last, best=network)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a training that nobody will go on with or look at."""
    for name in (run_directory.LAST_CHECKPOINT, run_directory.BEST_CHECKPOINT):
        (folder / name).unlink(missing_ok=True)
