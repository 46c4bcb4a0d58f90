"""A plan as Tune sees it: a searcher that hands out trainings, a scheduler that hears of epochs."""

import errno
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from busi_tune import run_directory
from busi_tune.command_line import ClusterError
from busi_tune.orchestration.messages import DISK_FULL, NO_PLACE, PLACE, STORAGE_LOST, Messages
from busi_tune.orchestration.nodes import Nodes
from busi_tune.orchestration.quiet import Unsaved
from busi_tune.orchestration.worker import to_message
from busi_tune.plan import Outcome, Plan, Training, read_outcome
from busi_tune.remote.objects import StorageError
from busi_tune.remote.run import StoredRun

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Whoever shows progress."""

    def on_start(self, training: Training) -> None:
        """A training was handed to the cluster."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """An epoch ended."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """A training ended."""


@dataclass
class _Try:
    """A training under way."""

    training: Training
    losses_before: int
    """Nodes that had been lost when it was given out."""
    moves_before: int
    """Trainings that had begun or ended by then."""
    places: list[str] = field(default_factory=list)
    """Addresses of its processes' nodes. Of several workers that which waits for them is first."""
    has_no_place: bool = False

    @property
    def num_places(self) -> int:
        """How many processes are to tell their place."""
        num_workers = self.training.config.resources.num_workers
        return num_workers + (num_workers > 1)

    @property
    def has_begun(self) -> bool:
        """Whether one of its workers has told where it is."""
        return len(self.places) > (self.num_places > 1)


class PlanSearcher(Unsaved, Searcher):
    """Asks the plan for trainings and tells it of their ends.

    It gives out as many at a time as the cluster carries now, and gives those whose worker died
    out again: Tune's own retries would count lost nodes like crashes.
    """

    def __init__(
        self,
        plan: Plan,
        observer: Observer,
        max_failures: int,
        nodes: Nodes,
        storage: StoredRun | None = None,
    ) -> None:
        super().__init__()
        self._plan = plan
        self._storage = storage
        self._observer = observer
        self._nodes = nodes
        self._max_tries = max_failures + 1
        self._deaths: Counter[tuple[str, Path]] = Counter()
        self._again: list[Training] = []
        """To be given out once more, before anything new."""
        self._twins: list[Training] = []
        """To be given out when the one that works in the same folder has ended."""
        self._tries: dict[str, _Try] = {}
        self._num_moves = 0
        self._wait_was_said = False
        self.broken_by: ClusterError | None = None
        """Why the run is to be broken off: the storage was lost, or an end could not be noted."""

    def suggest(self, trial_id: str) -> Any:
        """Hand out the next training; None asks Tune to come back later.

        Raises:
            ClusterError: what broke the run; Tune lets errors through from here, not from ends.
        """
        if self.broken_by is not None:
            raise self.broken_by
        num_open = self._plan.num_open()
        if num_open == 0:
            return Searcher.FINISHED
        room = self._nodes.room(num_open)
        if len(self._tries) >= room:
            return None
        training = self._choose(room)
        if training is None:
            return None if self._plan.num_open() else Searcher.FINISHED
        self._tries[trial_id] = _Try(training, self._nodes.num_losses, self._num_moves)
        return to_message(
            training, self._storage.address_of(training.folder) if self._storage else ""
        )

    def _choose(self, room: int) -> Training | None:
        """Take one whose folder no other works in, as trials of equal settings would."""
        taken = {each.training.folder for each in self._tries.values()}
        for waiting in (self._again, self._twins):
            for training in waiting:
                if training.folder not in taken:
                    waiting.remove(training)
                    return training if waiting is self._again else self._begin(training)
        if len(self._twins) >= room:
            return None
        new = self._plan.next_training()
        if new is not None and new.folder in taken:
            self._twins.append(new)
            return None
        return None if new is None else self._begin(new)

    def _begin(self, training: Training) -> Training:
        training.folder.mkdir(parents=True, exist_ok=True)
        self._observer.on_start(training)
        return training

    def on_report(self, trial_id: str, report: Mapping[str, Any]) -> Training:
        """Note what a training reports of its place; returns the training.

        Raises:
            ClusterError: neither it nor any other has found a place.
        """
        one = self._tries[trial_id]
        if PLACE in report:
            begun_before = one.has_begun
            one.places.append(report[PLACE])
            self._num_moves += one.has_begun and not begun_before
        if NO_PLACE in report:
            one.has_no_place = True
            still = self._num_moves == one.moves_before
            if still and not any(each.has_begun for each in self._tries.values()):
                self.broken_by = ClusterError(report[NO_PLACE])
                raise self.broken_by
            if not self._wait_was_said:
                self._wait_was_said = True
                logger.info("%s waits: no place for its workers yet", one.training.name)
        return one.training

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Read from the training's folder how it ended, and tell the plan."""
        ended = self._tries.pop(trial_id)
        training = ended.training
        self._num_moves += ended.has_begun
        times = "once" if self._max_tries == 1 else f"{self._max_tries} times"
        death = f"its worker died (killed or out of memory), {times}" if error else ""
        try:
            if ended.has_no_place or (error and self._goes_on(ended)):
                self._again.append(training)
                return
            if self._storage is not None:
                self._storage.collect(training.folder)
            outcome = read_outcome(training.folder, death)
            self._plan.on_end(training, outcome)
            self._observer.on_end(training, outcome)
        except StorageError as error:
            self.broken_by = error
        except Exception as error:  # Tune would tell of the end once more, and say that instead
            what = f"{type(error).__name__}: {error}"
            self.broken_by = ClusterError(f"the end of {training.name} was not noted: {what}")
            self.broken_by.__cause__ = error

    def ask_to_stop(self, training: Training) -> None:
        """Leave a training the sign that ends it after its epoch."""
        (training.folder / run_directory.STOP).touch()
        if self._storage is not None:
            self._storage.ask_to_stop(training.folder)

    def _goes_on(self, ended: _Try) -> bool:
        """Whether a training whose worker died is tried again; that of its node is no failure."""
        lost = self._nodes.find_lost(ended.losses_before)
        training = ended.training
        has_told = len(ended.places) >= ended.num_places  # one that was at its start is nowhere
        if lost and (not has_told or lost & set(ended.places)):
            who = "a node"
        else:
            one = (training.name, training.folder)
            self._deaths[one] += 1
            if self._deaths[one] >= self._max_tries:
                return False
            who = "its worker"
        logger.warning("%s: %s died, it goes on from its last epoch", training.name, who)
        return True

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file, as Tune expects one."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Take up nothing."""


class PlanScheduler(Unsaved, FIFOScheduler):
    """Tells the plan of epochs; a training that should stop finds a stop file and ends itself.

    Ended from outside, a training of several workers could leave its placement group behind.
    """

    def __init__(self, searcher: PlanSearcher, plan: Plan, observer: Observer) -> None:
        super().__init__()
        self._searcher = searcher
        self._plan = plan
        self._observer = observer
        self._messages = Messages()

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Note the epoch before the training is allowed to go on.

        Raises:
            OSError: a training found the disk full; the run is to be broken off.
            StorageError: a training lost the storage; likewise.
            ClusterError: no training found a place; likewise.
        """
        training = self._searcher.on_report(trial.trial_id, result)
        self._messages.say(training.name, result)
        if DISK_FULL in result:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), result[DISK_FULL])
        if STORAGE_LOST in result:
            self._searcher.broken_by = StorageError(result[STORAGE_LOST])
            raise self._searcher.broken_by
        if "epoch" in result:
            if self._plan.on_epoch(training, result):
                self._searcher.ask_to_stop(training)
            self._observer.on_epoch(training, result)
        return str(FIFOScheduler.CONTINUE)
