"""The run in numbers for Prometheus: gauges and counters that Ray exports on the driver's node.

Ray puts `ray_` before every name. `experiments/cluster/grafana.json` is a dashboard of them.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from busi_tune.config import Config
from busi_tune.orchestration.progress import has_ended
from busi_tune.orchestration.standings import Standings
from busi_tune.plan import Outcome, Training, read_outcome

logger = logging.getLogger(__name__)

RUN = "run"
"""The tag of every metric: the name of the run directory."""
STATE = "state"
"""Of `busi_tune_trainings`: running, finished, pruned or failed."""
MONITOR = "monitor"
"""Of `busi_tune_best_value`: what it is a value of, such as val_dice."""

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "busi_tune_best_value": (
        "Best value of training.monitor so far, of a trial or model with all its trainings",
        (RUN, MONITOR),
    ),
    "busi_tune_trainings": ("Trainings of the run in each state", (RUN, STATE)),
    "busi_tune_images_per_second": ("Images per second of all running trainings", (RUN,)),
}
COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "busi_tune_epochs": ("Epochs trained since this start of the run", (RUN,)),
}


REPEAT_SECONDS = 5.0
"""Ray drops a gauge that it was not told of twice its report interval, which is 10 s."""

_Key = tuple[str, Path]


def _key(training: Training) -> _Key:
    """Tell trainings apart: those of two plans may share a name or a folder, not both."""
    return training.name, training.folder


class Metrics:
    """An observer that tells Ray's metrics of trainings, from the first start; a context manager.

    Within it gauges are told again and again, since epochs can be far apart.
    """

    def __init__(
        self,
        config: Config,
        run: str,
        earlier: Sequence[Training] = (),
        repeat_seconds: float = REPEAT_SECONDS,
    ) -> None:
        """Begin to count.

        Args:
            config: of the run.
            run: its name, the value of the tag.
            earlier: trainings of the run; those that an earlier start has ended are counted.
            repeat_seconds: after which gauges are told again.
        """
        self._run = run
        self._monitor = config.training.monitor
        self._standings = Standings(config)
        for training in filter(has_ended, earlier):
            self._standings.add(training, read_outcome(training.folder), seconds=None)
        self._rates: dict[_Key, float] = {}
        """Images per second of each running training, 0 before its first epoch."""
        self._epochs: dict[_Key, int] = {}
        self._metrics: dict[str, Any] = {}
        self._gauges: list[tuple[str, dict[str, str], float]] = []
        """What was told last: name, tags and value; for both threads, under the lock."""
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._repeat_seconds = repeat_seconds
        self._repeating = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> "Metrics":
        """Begin to repeat."""
        self._repeating.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say no more."""
        self._left.set()
        self._repeating.join()

    def on_start(self, training: Training) -> None:
        """Count a training as running."""
        self._rates[_key(training)] = 0.0
        self._tell()

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Count an epoch, but not one that is heard again, and note how fast it was."""
        key, epoch = _key(training), int(metrics["epoch"])
        self._rates[key] = float(metrics.get("images_per_second", 0.0))
        before = self._epochs.get(key, 0)
        # A training that goes on says its last epoch once more, whatever its number.
        if epoch == before + 1:
            self._metric("busi_tune_epochs").inc(1, {RUN: self._run})
        self._epochs[key] = max(before, epoch)
        self._tell()

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Count an end, and see who leads."""
        self._rates.pop(_key(training), None)
        self._epochs.pop(_key(training), None)
        self._standings.add(training, outcome, seconds=None)
        self._tell()

    def _tell(self) -> None:
        run, best = {RUN: self._run}, self._standings.best
        counts = {"running": len(self._rates)} | self._standings.counts
        gauges: list[tuple[str, dict[str, str], float]] = [
            ("busi_tune_trainings", run | {STATE: state}, number)
            for state, number in counts.items()
        ]
        gauges.append(("busi_tune_images_per_second", run, sum(self._rates.values())))
        if best is not None:
            gauges.append(("busi_tune_best_value", run | {MONITOR: self._monitor}, best[0]))
        with self._lock:
            self._gauges = gauges
        self._set_gauges()

    def _repeat(self) -> None:
        failed = False
        while not self._left.wait(self._repeat_seconds):
            try:
                if ray.is_initialized():
                    self._set_gauges()
            except Exception as error:
                if not failed:
                    logger.warning("Ray could not be told the run's metrics: %s", error)
                failed = True

    def _set_gauges(self) -> None:
        with self._lock:
            for name, tags, value in self._gauges:
                self._metric(name).set(value, tags)

    def _metric(self, name: str) -> Any:
        """Give a metric, made when it is first used: Ray must have been joined before."""
        if name not in self._metrics:
            gauge = name in GAUGES
            description, tags = GAUGES[name] if gauge else COUNTERS[name]
            self._metrics[name] = (Gauge if gauge else Counter)(name, description, tags)
        return self._metrics[name]
