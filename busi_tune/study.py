"""The search's state: an Optuna study in SQLite that no kill can put in doubt.

Every decision is a function of what the study holds, so a search that goes on after a kill decides
as if nothing had happened: trials found RUNNING go on under their own number before new ones are
asked, samplers are made anew for each trial from the seed and its number, and the halving pruner
looks at intermediate values only.
"""

import contextlib
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from busi_tune import run_directory
from busi_tune.config import Config, SearchConfig
from busi_tune.plan import Outcome, Training
from busi_tune.run_directory import write_atomic
from busi_tune.search_space import Dimension, sample

STUDY_NAME = "busi_tune"
_OUTCOME_ATTRIBUTES = ("epochs", "best_epoch", "seconds", "num_parameters", "num_workers")


class HalvingPruner(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al., arXiv 1810.05934) without state of its own.

    At epochs `min_epochs * factor ** k` a trial goes on only if its best value so far is among the
    best 1 / factor of the trials that came as far.
    """

    def __init__(self, min_epochs: int, factor: int) -> None:
        self._min_epochs = min_epochs
        self._factor = factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Decide at a rung; between rungs every trial goes on."""
        rung = trial.last_step
        if rung is None or not self._is_rung(rung):
            return False
        better = max if study.direction == optuna.study.StudyDirection.MAXIMIZE else min
        own = _best_until(trial, rung, better)
        others = [
            _best_until(other, rung, better)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and (other.last_step or 0) >= rung
        ]
        keep = max(1, (len(others) + 1) // self._factor)
        return sum(better(own, other) == other != own for other in others) >= keep

    def _is_rung(self, epoch: int) -> bool:
        rung = self._min_epochs
        while rung < epoch:
            rung *= self._factor
        return rung == epoch


def _best_until(trial: FrozenTrial, epoch: int, better: Callable[..., float]) -> float:
    return better(value for step, value in trial.intermediate_values.items() if step <= epoch)


@contextlib.contextmanager
def open_study(path: Path, config: Config) -> Iterator[optuna.Study]:
    """Open or make the study of a run in WAL mode, which survives the death of its writer.

    On leaving, the write-ahead log is folded into the file, so that one file holds the study.
    """
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    storage.engine.dispose()
    sqlalchemy.event.listen(storage.engine, "connect", _use_write_ahead_log)
    try:
        yield optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            direction="minimize" if config.training.monitor == "val_loss" else "maximize",
            load_if_exists=True,
            pruner=_build_pruner(config.search),
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _use_write_ahead_log(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _build_pruner(search: SearchConfig) -> optuna.pruners.BasePruner:
    if search.pruner == "halving":
        return HalvingPruner(search.min_epochs, search.reduction_factor)
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=search.min_epochs - 1)
    return optuna.pruners.NopPruner()


def _build_sampler(search: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=10
        )


class StudyPlan:
    """The trials of a search as a plan."""

    def __init__(
        self,
        study: optuna.Study,
        config: Config,
        space: list[Dimension],
        place: Callable[[int, Mapping[str, Any]], Training],
        after_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Take up the study where it is.

        Args:
            study: the study, perhaps with trials of an earlier start.
            config: the search's configuration.
            space: the compiled space.
            place: makes the training of a trial from its number and sampled settings.
            after_end: called whenever a trial has ended.
        """
        self.study = study
        self._config = config
        self._space = space
        self._place = place
        self._after_end = after_end
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._interrupted = [optuna.trial.Trial(study, trial._trial_id) for trial in running]
        self._asked = len(study.get_trials(deepcopy=False))
        self._trials: dict[int, optuna.trial.Trial] = {}
        self._steps: dict[int, set[int]] = {
            trial.number: set(trial.intermediate_values) for trial in running
        }

    def num_open(self) -> int:
        """Trials not ended yet."""
        to_ask = max(0, self._config.search.num_trials - self._asked)
        return len(self._trials) + len(self._interrupted) + to_ask

    def next_training(self) -> Training | None:
        """An interrupted trial first, then a new one until all are asked."""
        if self._interrupted:
            trial = self._interrupted.pop(0)
        elif self._asked < self._config.search.num_trials:
            self.study.sampler = _build_sampler(
                self._config.search, self._config.seed + self._asked
            )
            trial = self.study.ask()
            self._asked += 1
            self._steps[trial.number] = set()
        else:
            return None
        settings = sample(self._space, trial)
        training = self._place(trial.number, settings)
        trial.set_user_attr("key", training.folder.name)
        trial.set_user_attr("settings", settings)
        self._trials[trial.number] = trial
        return training

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Report an epoch that the study does not know; say whether the trial should stop."""
        trial = self._trials[training.identity["trial"]]
        epoch = int(metrics["epoch"])
        if epoch not in self._steps[trial.number]:
            trial.report(metrics[self._config.training.monitor], epoch)
            self._steps[trial.number].add(epoch)
        return epoch < self._config.training.epochs and trial.should_prune()

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Tell the study how the trial ended; a value that is no number is a failure."""
        trial = self._trials.pop(training.identity["trial"])
        del self._steps[trial.number]
        for name in _OUTCOME_ATTRIBUTES:
            if name in outcome.result:
                trial.set_user_attr(name, outcome.result[name])
        value = outcome.result.get("best_value", math.nan)
        if outcome.failed or not math.isfinite(value):
            trial.set_user_attr("reason", outcome.reason or "its value is not finite")
            self.study.tell(trial, state=TrialState.FAIL)
        elif outcome.status == "pruned":
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value)
        self._after_end()


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial with the best value, of equals the earliest; None without any."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(
        complete, key=lambda trial: (sign * (trial.value or 0.0), -trial.number), default=None
    )


def trials_table(study: optuna.Study, space: list[Dimension]) -> pd.DataFrame:
    """Return a row per trial: state, value, cost and the settings it tried."""
    names = [dimension.name for dimension in space if not dimension.is_constant]
    rows = []
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        settings = attributes.get("settings", {})
        value = trial.value if trial.state == TrialState.COMPLETE else None
        rows.append(
            {"trial": trial.number, "key": attributes.get("key"), "state": trial.state.name}
            | {"value": value}
            | {name: attributes.get(name) for name in _OUTCOME_ATTRIBUTES}
            | {"reason": attributes.get("reason", "")}
            | {name: settings.get(name) for name in names}
        )
    columns = ["trial", "key", "state", "value", *_OUTCOME_ATTRIBUTES, "reason", *names]
    return pd.DataFrame(rows, columns=columns)


def export_trials(study: optuna.Study, space: list[Dimension], run_dir: Path) -> None:
    """Write trials.csv, a view of the study."""
    text = trials_table(study, space).to_csv(index=False)
    write_atomic(run_dir / run_directory.TRIALS, text)
