"""A plan as Tune sees it: a searcher that hands out trainings, a scheduler that hears of epochs."""

import errno
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from busi_tune import run_directory
from busi_tune.command_line import ClusterError
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import Request, connected, resolve_request
from busi_tune.orchestration.messages import DISK_FULL, STORAGE_LOST, Messages
from busi_tune.orchestration.nodes import Nodes
from busi_tune.orchestration.quiet import Lines, Unsaved
from busi_tune.orchestration.starts import find_last_addresses
from busi_tune.orchestration.trainable import Fit, Images, build_trainable, to_message
from busi_tune.orchestration.waiting import Waiting
from busi_tune.plan import Outcome, Plan, Training, read_outcome
from busi_tune.remote.objects import StorageError
from busi_tune.remote.run import StoredRun
from busi_tune.scratch import scratch_folder

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Whoever shows progress."""

    def on_start(self, training: Training) -> None:
        """A training was handed to the cluster."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """An epoch ended."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """A training ended."""


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
        self._tries = max_failures + 1
        self._deaths: Counter[Path] = Counter()
        self._again: list[Training] = []
        self._losses_before: dict[str, int] = {}
        self.trainings: dict[str, Training] = {}
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
        if len(self.trainings) >= self._nodes.room(num_open):
            return None
        training = self._again.pop(0) if self._again else self._begin_next()
        if training is None:
            return None if self._plan.num_open() else Searcher.FINISHED
        self.trainings[trial_id] = training
        self._losses_before[trial_id] = self._nodes.num_losses
        return to_message(
            training, self._storage.address_of(training.folder) if self._storage else ""
        )

    def _begin_next(self) -> Training | None:
        training = self._plan.next_training()
        if training is not None:
            training.folder.mkdir(parents=True, exist_ok=True)
            self._observer.on_start(training)
        return training

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Read from the training's folder how it ended, and tell the plan."""
        training = self.trainings.pop(trial_id)
        losses_before = self._losses_before.pop(trial_id)
        times = "once" if self._tries == 1 else f"{self._tries} times"
        death = f"its worker died (killed or out of memory), {times}" if error else ""
        try:
            if error and self._goes_on(training, losses_before):
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

    def _goes_on(self, training: Training, losses_before: int) -> bool:
        """Whether a training whose worker died is tried again; that of its node is no failure."""
        lost = self._nodes.find_lost(losses_before)
        num_workers = training.config.resources.num_workers
        places = find_last_addresses(training.folder, num_workers, self._storage)
        if lost and (not places or places & lost):
            who = "a node"
        else:
            self._deaths[training.folder] += 1
            if self._deaths[training.folder] >= self._tries:
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
        """
        training = self._searcher.trainings[trial.trial_id]
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


def run_plan(
    plan: Plan,
    images: Images,
    splits: Mapping[str, Split],
    resources: ResourcesConfig,
    observer: Observer,
    fit: Fit | None = None,
    shared: str | None = None,
    storage: StoredRun | None = None,
    name: str = "",
) -> None:
    """Run every open training of a plan on the cluster.

    Args:
        plan: what to train.
        images: the images of all trainings, or a set for each of their sizes.
        splits: the splits by name.
        resources: what each training takes.
        observer: who shows progress.
        fit: stands in for `busi_tune.training.loop.fit`.
        shared: a folder that all nodes see, where there are several.
        storage: the run's place in a storage, which stands for such a folder.
        name: of the job in Ray's dashboard.

    Raises:
        ClusterError: the cluster cannot run the trainings or was lost; what is finished stays.
    """
    if plan.num_open() == 0:
        return
    for library in ("ray.tune", "ray.train"):
        # What matters is said by the observer.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if shared:
        Path(shared).mkdir(parents=True, exist_ok=True)
    with (
        scratch_folder("tune", shared) as scratch,
        connected(name) as joined,
    ):
        request = resolve_request(resources, joined, plan.num_open())
        if request.num_nodes > 1 and not shared and storage is None:
            raise ClusterError(
                f"the cluster has {request.num_nodes} nodes: name a folder that all of them see "
                "with --storage FOLDER, or a bucket with --storage s3://BUCKET/PREFIX"
            )
        if joined and not shared and storage is None:
            request = request.tied_to_this_node()  # others may join, and would not see the folders
        _announce(plan, request)
        try:
            trainable = build_trainable(request, images, splits, fit)
            searcher = PlanSearcher(plan, observer, resources.max_failures, Nodes(request), storage)
            _tune(plan, trainable, request, searcher, observer, scratch)
        except (RayError, TuneError) as error:
            last_line = str(error).strip().splitlines()[-1]
            raise ClusterError(f"the run broke off: {last_line}") from error


def _announce(plan: Plan, request: Request) -> None:
    logger.info(
        "%d training(s) to go, up to %d at a time, each %d worker(s) of %g CPU(s), %g GPU(s)",
        plan.num_open(),
        request.max_concurrent,
        request.num_workers,
        request.cpus_per_worker,
        request.gpus_per_worker,
    )


def _tune(
    plan: Plan,
    trainable: Any,
    request: Request,
    searcher: PlanSearcher,
    observer: Observer,
    scratch: Path,
) -> None:
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=PlanScheduler(searcher, plan, observer),
            num_samples=-1,
            # The searcher knows how many; without a number Tune would start them one by one.
            max_concurrent_trials=sys.maxsize,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"{trial.config['name']}".replace(" ", "-"),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch),
            name="tune",
            verbose=0,
            callbacks=[Lines(), Waiting(request.wait_seconds)],
            failure_config=tune.FailureConfig(max_failures=0),  # the searcher tries again
        ),
    )
    try:
        tuner.fit()
    finally:
        if searcher.broken_by is not None:  # not as one error among those that Tune makes of it
            raise searcher.broken_by
