"""The trials of a search as a plan."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.plan import Outcome, Training
from busi_tune.search_space import Dimension, sample
from busi_tune.study.limits import Limits
from busi_tune.study.objectives import best_trial, read_values
from busi_tune.study.pruners import step_of
from busi_tune.study.race import is_beaten
from busi_tune.study.samplers import build_sampler
from busi_tune.study.tables import OUTCOME_ATTRIBUTES

OVER_TIME = "the search's budget ran out"
_STARTS = "starts"

Place = Callable[[int, Mapping[str, Any]], Sequence[Training]]


@dataclass
class _Run:
    """A trial under way: a training per inner fold, one after the other."""

    trial: optuna.trial.Trial
    trainings: Sequence[Training]
    known_steps: set[int]
    results: list[Mapping[str, Any]] = field(default_factory=list)


class StudyPlan:
    """The trials of a search as a plan."""

    def __init__(
        self,
        study: optuna.Study,
        config: Config,
        space: Sequence[Dimension],
        place: Place,
        after_end: Callable[[], None] = lambda: None,
        starts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Take up the study where it is.

        Args:
            study: the study, perhaps with trials of an earlier start.
            config: the search's configuration.
            space: the compiled space.
            place: makes the trainings of a trial, one per inner fold, from its number and sampled
                settings.
            after_end: called whenever a trial has ended.
            starts: the searched settings of configurations to try first; a study that has its own
                keeps them.
        """
        self.study = study
        self._config = config
        self._search = config.search
        self._space = space
        self._place = place
        self._after_end = after_end
        self.limits = Limits(study, config)
        if _STARTS not in study.user_attrs:
            study.set_user_attr(_STARTS, [dict(start) for start in starts])
        self._starts: list[dict[str, Any]] = study.user_attrs[_STARTS]
        trials = study.get_trials(deepcopy=False)
        self._interrupted = [trial for trial in trials if trial.state == TrialState.RUNNING]
        self._asked = len(trials)
        self._runs: dict[int, _Run] = {}
        self._waiting: list[Training] = []

    def num_open(self) -> int:
        """Trainings not ended yet, all inner folds counted."""
        to_ask = 0 if self.limits.is_reached() else self._search.num_trials - self._asked
        under_way = sum(len(run.trainings) - len(run.results) for run in self._runs.values())
        return under_way + (len(self._interrupted) + max(0, to_ask)) * self._search.inner_folds

    def next_training(self) -> Training | None:
        """The next fold of a trial under way, an interrupted trial, then a new one."""
        if self._waiting:
            return self._waiting.pop(0)
        if self._interrupted:
            frozen = self._interrupted.pop(0)
            self._set_sampler(frozen.number)
            trial = optuna.trial.Trial(self.study, frozen._trial_id)
            return self._start(trial, set(frozen.intermediate_values))
        if self._asked < self._search.num_trials and not self.limits.is_reached():
            self._set_sampler(self._asked)
            self._asked += 1
            return self._start(self.study.ask(), set())
        return None

    def _set_sampler(self, number: int) -> None:
        seed = self._config.seed
        self.study.sampler = build_sampler(self._search, seed, self._starts, number)

    def _start(self, trial: optuna.trial.Trial, known_steps: set[int]) -> Training:
        settings = sample(self._space, trial)
        run = _Run(trial, self._place(trial.number, settings), known_steps)
        trial.set_user_attr("keys", [training.folder.name for training in run.trainings])
        trial.set_user_attr("settings", settings)
        self._runs[trial.number] = run
        return run.trainings[0]

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Report an epoch that the study does not know; say whether the trial should stop.

        Pruners compare the first inner fold; later folds are the race's. Neither stops the
        configurations to try first: a search is to end no lower than they do.
        """
        self.limits.note_now_and_then()
        run = self._runs[training.identity["trial"]]
        first = not run.results and len(self._search.objectives) == 1
        step = step_of(metrics, self._search.rung_unit)
        if first and step not in run.known_steps:
            run.trial.report(metrics[self._config.training.monitor], step)
            run.known_steps.add(step)
        if metrics["epoch"] >= training.config.training.epochs:
            return False
        prunable = first and not self._is_start(run)
        return self.limits.is_over_time() or (prunable and run.trial.should_prune())

    def _is_start(self, run: _Run) -> bool:
        return run.trial.number < len(self._starts)

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Tell the study, or let the trial go on with its next inner fold."""
        run = self._runs[training.identity["trial"]]
        run.results.append(outcome.result)
        reason = self._reason_to_stop(run, outcome)
        ended = outcome.failed or outcome.status == "pruned" or bool(reason)
        if not ended and len(run.results) < len(run.trainings):
            self._waiting.append(run.trainings[len(run.results)])
            return
        del self._runs[run.trial.number]
        summary = _summarise(run.results)
        for name in OUTCOME_ATTRIBUTES:
            if name in summary:
                run.trial.set_user_attr(name, summary[name])
        values = read_values(summary, self._search.objectives)
        if outcome.failed:
            run.trial.set_user_attr("reason", outcome.reason)
            self.study.tell(run.trial, state=TrialState.FAIL)
        elif reason or outcome.status == "pruned":
            run.trial.set_user_attr("reason", reason)
            self.study.tell(run.trial, state=TrialState.PRUNED)
        elif not all(map(math.isfinite, values)):
            run.trial.set_user_attr("reason", "its value is not finite")
            self.study.tell(run.trial, state=TrialState.FAIL)
        else:
            run.trial.set_user_attr("reason", "")  # perhaps one that was killed before it was told
            self.study.tell(run.trial, values)
        self.limits.note()
        self._after_end()

    def _reason_to_stop(self, run: _Run, outcome: Outcome) -> str:
        """Why a trial that its training did not end goes no further."""
        more = len(run.results) < len(run.trainings)
        if self.limits.is_over_time() and (more or outcome.status == "pruned"):
            return OVER_TIME
        if outcome.failed or outcome.status == "pruned" or not more:
            return ""
        best = best_trial(self.study)
        if best is None or self._is_start(run) or len(self._search.objectives) > 1:
            return ""
        folders = [training.folder for training in run.trainings[: len(run.results)]]
        of_best = [folders[0].parent / key for key in best.user_attrs["keys"]]
        if not all((folder / run_directory.IMAGES).exists() for folder in of_best):
            return ""  # one of its trainings was damaged and is being made anew
        level = self._search.race_level
        if is_beaten(folders, of_best, self._config.training.monitor, level):
            return f"beaten by trial {best.number} after {len(folders)} folds"
        return ""


def _summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the cost of a trial's inner folds up, and average what is measured on each."""
    summary = dict(results[-1])
    if len(results) > 1:
        summary["best_epoch"] = None
        for name, mean in (("epochs", False), ("seconds", False), ("best_value", True)):
            values = [result[name] for result in results if result.get(name) is not None]
            summary[name] = sum(values) / (len(values) if mean else 1)
    return summary
