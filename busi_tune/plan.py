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
    """What the scheduler asks. It is at its end when `num_open` is 0."""

    def num_open(self) -> int:
        """Trainings not ended yet."""

    def next_training(self) -> Training | None:
        """The next training to start; None where there is none before another has ended."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Take note of an epoch, perhaps heard before; True asks the training to stop."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Take note of the end of a training."""


def read_outcome(folder: Path, error: str = "") -> Outcome:
    """Read how a training ended from its folder.

    Args:
        folder: the training's own.
        error: the death of its process, if the scheduler knows of one.
    """
    result = folder / run_directory.RESULT
    if result.exists():
        content = read_json(result)
        return Outcome(content["status"], content)
    failure = folder / run_directory.FAILURE
    if failure.exists():
        said = read_json(failure)
        # What may come from the death of another rank is not the reason of this death.
        echo = error and said.get("retry")
        error = f"{error}; it said: {said['reason']}" if echo else said["reason"]
    return Outcome("failed", {}, error or "it ended without a result")


def record_failure(folder: Path, error: Exception, retry: bool = False) -> None:
    """Leave in a training's folder why it ended; the first of several ranks tells."""
    path = folder / run_directory.FAILURE
    if not path.exists():
        write_json(path, describe_failure(error, retry))


def describe_failure(error: Exception, retry: bool) -> dict[str, Any]:
    """Return what a training's failure file says."""
    return {"reason": f"{type(error).__name__}: {error}", "retry": retry}


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


class FollowedPlan:
    """A plan and the trainings that its end leads to: a search and then its best ones."""

    def __init__(
        self,
        first: Plan,
        follow: Callable[[], Sequence[Training]],
        after_end: Callable[[], None] = lambda: None,
        num_following: int = 1,
    ) -> None:
        """Take up the plan where it is.

        Args:
            first: the plan to end before.
            follow: gives the trainings that follow, once the plan is at its end.
            after_end: called when one of those has ended.
            num_following: how many at most will follow.
        """
        self._first = first
        self._follow = follow
        self._num_following = num_following
        self._after_end = after_end
        self._second: ListPlan | None = None
        self._go_on()

    @property
    def _current(self) -> Plan:
        return self._first if self._second is None else self._second

    def num_open(self) -> int:
        """Trainings not ended yet, those that follow included."""
        if self._second is None:
            return self._first.num_open() + self._num_following
        return self._second.num_open()

    def next_training(self) -> Training | None:
        """The next training of the plan, or of those that follow."""
        self._go_on()  # a plan may also end by the clock
        return self._current.next_training()

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Pass on an epoch."""
        return self._current.on_epoch(training, metrics)

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Pass on an end, and see whether it is time for the trainings that follow."""
        self._current.on_end(training, outcome)
        self._go_on()

    def _go_on(self) -> None:
        if self._second is None and self._first.num_open() == 0:
            self._second = ListPlan(self._follow(), self._after_end)


class JoinedPlan:
    """Several plans as one, the earlier ones first.

    Trainings of two plans may share a name (a model called `trial 3`) or a folder (a search's
    winner with the settings of a model), not both.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._plans = plans
        self._owners: dict[tuple[str, Path], Plan] = {}

    def num_open(self) -> int:
        """Trainings not ended yet."""
        return sum(plan.num_open() for plan in self._plans)

    def next_training(self) -> Training | None:
        """The next training of the first plan that has one to start."""
        for plan in self._plans:
            training = plan.next_training()
            if training is not None:
                self._owners[training.name, training.folder] = plan
                return training
        return None

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Pass an epoch on to the training's plan."""
        return self._owners[training.name, training.folder].on_epoch(training, metrics)

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Pass an end on to the training's plan."""
        self._owners.pop((training.name, training.folder)).on_end(training, outcome)
