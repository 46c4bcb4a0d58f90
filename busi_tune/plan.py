"""What is to be trained, as the scheduler asks for it: one interface for trials and folds.

A plan hands out trainings, hears of their epochs and of their end. It knows nothing of Ray: the
orchestration drives any plan, and tests drive it with a plain loop.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.run_directory import read_json, write_json


@dataclass(frozen=True)
class Training:
    """One training: a resolved configuration on one split, in a folder of its own."""

    name: str
    """What people see in the live table and in the Ray dashboard."""
    identity: Mapping[str, Any]
    """The first columns of its rows: trial and key, or model, repeat, fold and key."""
    config: Config
    split: str
    """Name of the split in splits.json."""
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """How a training ended, as its folder tells."""

    status: str
    """finished, early_stopped, pruned or failed."""
    result: Mapping[str, Any]
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether the training left no result."""
        return self.status == "failed"


class Plan(Protocol):
    """What the scheduler asks."""

    def num_open(self) -> int:
        """Trainings not ended yet."""

    def next_training(self) -> Training | None:
        """The next training to start; None when all are handed out."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Take note of an epoch, perhaps heard before; True asks the training to stop."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Take note of the end of a training."""


def read_outcome(folder: Path, error: str = "") -> Outcome:
    """Read how a training ended from its folder; `error` is what the scheduler knows instead."""
    result = folder / run_directory.RESULT
    if result.exists():
        content = read_json(result)
        return Outcome(content["status"], content)
    failure = folder / run_directory.FAILURE
    if failure.exists():
        error = read_json(failure)["reason"]
    return Outcome("failed", {}, error or "it ended without a result")


def record_failure(folder: Path, error: Exception, retry: bool = False) -> None:
    """Leave in a training's folder why it ended; the first of several ranks tells."""
    path = folder / run_directory.FAILURE
    if not path.exists():
        write_json(path, {"reason": f"{type(error).__name__}: {error}", "retry": retry})


class ListPlan:
    """Trainings known beforehand, the folds of a cross-validation; those finished are not run."""

    def __init__(
        self, trainings: Sequence[Training], after_end: Callable[[], None] = lambda: None
    ) -> None:
        """Take the trainings without a result; `after_end` is called whenever one has ended."""
        self._waiting = [t for t in trainings if not (t.folder / run_directory.RESULT).exists()]
        self._open = len(self._waiting)
        self._after_end = after_end
        for training in self._waiting:
            (training.folder / run_directory.FAILURE).unlink(missing_ok=True)

    def num_open(self) -> int:
        """Trainings not ended yet."""
        return self._open

    def next_training(self) -> Training | None:
        """The next training in the order of the list."""
        return self._waiting.pop(0) if self._waiting else None

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Let every training run to its own end."""
        return False

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Count the training as ended."""
        self._open -= 1
        self._after_end()
