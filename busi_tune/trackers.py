"""Epochs and trials in the logs of other libraries, each training a run of its own; no Ray.

The files lie in the run directory under `trackers/` and are written by the driver alone. They are
copies for looking at: nothing reads them back, and a search goes on without one that fails.
"""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.full_disk import find_full_disk
from busi_tune.plan import Outcome, Training
from busi_tune.search_space import compile_space, is_active
from busi_tune.settings import flatten

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Whoever follows trainings from start to end."""

    def on_start(self, training: Training) -> None:
        """A training starts, or goes on."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """An epoch ended; the last one before an interruption is heard again."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """A training ended."""


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_start(self, training: Training) -> None:
        """Tell all of a start."""
        for observer in self._observers:
            observer.on_start(training)

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Tell all of an epoch."""
        for observer in self._observers:
            observer.on_epoch(training, metrics)

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Tell all of an end."""
        for observer in self._observers:
            observer.on_end(training, outcome)


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed, before anything starts.

    Raises:
        ValueError: says which, and how to install it.
    """
    for name in names:
        if name not in _PACKAGES:
            raise ValueError(f"search.trackers are some of {', '.join(_PACKAGES)}, not {name}")
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f"search.trackers: {name} is not installed; leave it out or "
                f"pip install {_PACKAGES[name]}, or with both trackers: pip install '.[trackers]'"
            )


@contextlib.contextmanager
def open_trackers(config: Config, run_dir: Path) -> Iterator[list[Observer]]:
    """Open the trackers of a search; a run that goes on appends to what is there."""
    folder = run_dir / run_directory.TRACKERS
    with contextlib.ExitStack() as stack:
        trackers: list[Observer] = []
        for name in config.search.trackers:
            tracker = Expendable(name, partial(_TRACKERS[name], folder, config))
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers


class Tracker(Observer, Protocol):
    """An observer that is closed in the end, with trainings under way if it was interrupted."""

    def close(self) -> None:
        """Close what is open."""


class Expendable:
    """A tracker that is left out from its first error on, unless that tells of a full disk."""

    def __init__(self, name: str, build: Callable[[], Tracker]) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        with self._guarded():
            self._tracker = build()

    def close(self) -> None:
        """Close the tracker."""
        self._tell(lambda tracker: tracker.close())

    def on_start(self, training: Training) -> None:
        """Tell of a start."""
        self._tell(lambda tracker: tracker.on_start(training))

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Tell of an epoch."""
        self._tell(lambda tracker: tracker.on_epoch(training, metrics))

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Tell of an end."""
        self._tell(lambda tracker: tracker.on_end(training, outcome))

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        if self._tracker is not None:
            with self._guarded():
                tell(self._tracker)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if find_full_disk(error):
                raise
            logger.warning(
                "search.trackers: %s failed, the search goes on without it (%s: %s)",
                self._name,
                type(error).__name__,
                error,
            )
            self._tracker = None


class TensorBoard:
    """Writes a folder of events per training; `tensorboard --logdir RUN/trackers` shows them."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder / "tensorboard"
        self._config = config
        self._writers: dict[str, Any] = {}

    def close(self) -> None:
        """Close what an interrupted run has left open."""
        for writer in self._writers.values():
            writer.close()

    def on_start(self, training: Training) -> None:
        """Wait for the first epoch."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Write an epoch's metrics."""
        writer = self._writer(training, int(metrics["epoch"]))
        for name, value in measured_values(metrics).items():
            writer.add_scalar(name, value, int(metrics["epoch"]))

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Write settings, final state and value as the training's hyperparameters."""
        from torch.utils.tensorboard.summary import hparams

        writer = self._writer(training, None)
        settings = searched_settings(training.config, self._config) | {"state": outcome.status}
        values = final_values(outcome)
        for summary in hparams(settings, values):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)
        for name, value in values.items():
            writer.add_scalar(name, value)
        self._writers.pop(training.name).close()

    def _writer(self, training: Training, epoch: int | None) -> Any:
        """Give the training's writer; a new one replaces what was logged from the epoch on."""
        from torch.utils.tensorboard import SummaryWriter

        if training.name not in self._writers:
            path = self._folder / training.name.replace(",", "").replace(" ", "-")
            self._writers[training.name] = SummaryWriter(path, purge_step=epoch)
        return self._writers[training.name]


class Mlflow:
    """Writes a database with a run per training, `trackers/mlflow.db`."""

    STATES: Mapping[str, str] = {"pruned": "KILLED", "failed": "FAILED"}

    def __init__(self, folder: Path, config: Config) -> None:
        # Nothing is to be sent anywhere from a machine with clinical images.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self._config = config
        self._client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        self._experiment = self._open_experiment(folder.parent.name, folder / "mlflow")
        self._runs: dict[str, Any] = {}

    def close(self) -> None:
        """Leave runs under way as RUNNING: a resumed search goes on with them."""

    def on_start(self, training: Training) -> None:
        """Open the training's run with its settings as parameters, or the one that it had."""
        named = f"attributes.run_name = '{training.name}'"
        found = self._client.search_runs([self._experiment], named)
        if found:
            self._runs[training.name] = found[0].info
            return
        run = self._client.create_run(self._experiment, run_name=training.name)
        self._runs[training.name] = run.info
        for name, value in searched_settings(training.config, self._config).items():
            self._client.log_param(run.info.run_id, name, value)

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Write an epoch's metrics."""
        from mlflow.entities import Metric

        run, epoch = self._runs[training.name], int(metrics["epoch"])
        # An epoch that is heard again has the same time, step and values, and so is kept once.
        time = run.start_time + round(1000 * metrics["seconds"])
        rows = [Metric(k, v, time, epoch) for k, v in measured_values(metrics).items()]
        self._client.log_batch(run.run_id, metrics=rows)

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Write final state and value, and close the run."""
        run_id = self._runs.pop(training.name).run_id
        for name, value in final_values(outcome).items():
            self._client.log_metric(run_id, name, value)
        self._client.set_tag(run_id, "state", outcome.status)
        if outcome.reason:
            self._client.set_tag(run_id, "reason", outcome.reason)
        self._client.set_terminated(run_id, self.STATES.get(outcome.status, "FINISHED"))

    def _open_experiment(self, name: str, files: Path) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=files.as_uri()))


def searched_settings(config: Config, base: Config) -> dict[str, Any]:
    """Return the settings of a training that its search has drawn, without those not in use."""
    flat, drawn = flatten(config), dict[str, Any]()
    for dimension in compile_space(base.search.space):
        if is_active(dimension, drawn):
            drawn[dimension.name] = flat[dimension.name]
    return drawn


def measured_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what an epoch's row of epochs.csv holds; a scheduler adds notes of its own to it."""
    own = ("lr", "seconds", "images_per_second")
    return {
        name: float(value)
        for name, value in metrics.items()
        if name in own or name.startswith(("train_", "val_"))
    }


def final_values(outcome: Outcome) -> dict[str, float]:
    """Return what a training came to, as far as it did."""
    names = ("best_value", "best_epoch", "epochs", "seconds", "num_parameters")
    found = {name: outcome.result.get(name) for name in names}
    return {f"final/{name}": float(value) for name, value in found.items() if value is not None}


_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}
_TRACKERS: Mapping[str, Callable[[Path, Config], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": Mlflow,
}
