"""When a trial is stopped: pure functions of the study's intermediate values.

A step is an epoch, or a thousandth of a second of training where rungs count seconds. Optuna's own
halving and Hyperband write a rung down before its decision is told, so a kill in between lets a
trial escape it; these keep nothing.
"""

import math
import zlib
from collections.abc import Callable, Mapping

import optuna
from optuna.trial import FrozenTrial, TrialState

from busi_tune.config import Config
from busi_tune.search_dimension import read_dimension
from busi_tune.settings import flatten

MILLISECONDS = 1000


def step_of(metrics: Mapping[str, float], rung_unit: str) -> int:
    """Return the step at which an epoch's value is reported."""
    return (
        round(metrics["seconds"] * MILLISECONDS)
        if rung_unit == "seconds"
        else int(metrics["epoch"])
    )


def build_pruner(config: Config) -> optuna.pruners.BasePruner:
    """Build the pruner of a search."""
    search = config.search
    first: float = search.min_epochs
    last = _longest(config, "training.epochs")
    if search.rung_unit == "seconds":
        first = search.min_seconds * MILLISECONDS
        last = _longest(config, "training.max_seconds") * MILLISECONDS
    if search.pruner == "halving":
        return HalvingPruner(first, search.reduction_factor, last)
    if search.pruner == "hyperband":
        return HyperbandPruner(first, last, search.reduction_factor)
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=search.min_epochs)
    return optuna.pruners.NopPruner()


def _longest(config: Config, setting: str) -> float:
    """Return where the longest training ends, also where the search chooses that itself."""
    longest: float = flatten(config)[setting]
    if setting in config.search.space:
        searched = read_dimension(setting, config.search.space[setting])
        longest = max(longest, searched.highest)
    return longest


class HalvingPruner(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al., arXiv 1810.05934) without state of its own.

    Rungs lie at `first * factor ** k`, below `last`, the end of a training. A trial that has come
    to one goes on only if its best value so far is among the best 1 / factor of the trials that
    came as far and have not failed. It comes to a rung with its first report at or beyond it, and
    its value there is the best until then.
    """

    def __init__(self, first: float, factor: int, last: float = math.inf) -> None:
        self._first = first
        self._last = last
        self._factor = factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Decide at a rung; between rungs every trial goes on."""
        rung = self._new_rung(trial)
        if rung is None:
            return False
        better = _better(study.direction)
        own = _best_at(trial, rung, better)
        others = [
            _best_at(other, rung, better)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number
            and other.state != TrialState.FAIL
            and (other.last_step or 0) >= rung
            and self._competes(trial, other)
        ]
        keep = max(1, (len(others) + 1) // self._factor)
        if math.isnan(own):
            return True
        return sum(better(own, other) == other != own for other in others) >= keep

    def _competes(self, trial: FrozenTrial, other: FrozenTrial) -> bool:
        return True

    def _first_rung(self, trial: FrozenTrial) -> float:
        return self._first

    def _new_rung(self, trial: FrozenTrial) -> float | None:
        """The highest rung between the report before the last and the last."""
        before, last = [0, 0, *sorted(trial.intermediate_values)][-2:]
        rung = self._first_rung(trial)
        if last < rung or rung >= self._last:
            return None
        while rung * self._factor <= last and rung * self._factor < self._last:
            rung *= self._factor
        return rung if rung > before else None


class HyperbandPruner(HalvingPruner):
    """Hyperband (Li et al., JMLR 18, 2018): brackets of halving that begin at later rungs.

    A trial's bracket is drawn from its number; the shares are those of Hyperband's budgets.
    """

    def __init__(self, first: float, last: float, factor: int) -> None:
        super().__init__(first, factor, last)
        highest = max(0, math.floor(math.log(last / first, factor) + 1e-9)) if last > first else 0
        # Of a bracket that begins at rung s, factor ** (highest - s) trials cost as much as one
        # that is never stopped: the fewer rungs, the fewer trials.
        self._shares = [
            math.ceil((highest + 1) * factor ** (highest - s) / (highest - s + 1))
            for s in range(highest + 1)
        ]

    @property
    def shares(self) -> list[int]:
        """How many of the trials begin at each rung, in proportion."""
        return self._shares

    def _bracket(self, trial: FrozenTrial) -> int:
        drawn = zlib.crc32(f"bracket {trial.number}".encode()) % sum(self._shares)
        bracket = 0
        while drawn >= self._shares[bracket]:
            drawn -= self._shares[bracket]
            bracket += 1
        return bracket

    def _competes(self, trial: FrozenTrial, other: FrozenTrial) -> bool:
        return self._bracket(trial) == self._bracket(other)

    def _first_rung(self, trial: FrozenTrial) -> float:
        return self._first * float(self._factor) ** self._bracket(trial)


def last_rung(
    trial: FrozenTrial, first: float, factor: int, direction: optuna.study.StudyDirection
) -> dict[int, float]:
    """Return the last rung that a trial came to, with its best value there; nothing before one."""
    rung = first
    if (trial.last_step or 0) < rung:
        return {}
    while rung * factor <= (trial.last_step or 0):
        rung *= factor
    return {round(rung): _best_at(trial, rung, _better(direction))}


def _better(direction: optuna.study.StudyDirection) -> Callable[..., float]:
    return max if direction == optuna.study.StudyDirection.MAXIMIZE else min


def _best_at(trial: FrozenTrial, rung: float, better: Callable[..., float]) -> float:
    """The best value until the trial's first report at or beyond the rung."""
    reached = min(step for step in trial.intermediate_values if step >= rung)
    return float(
        better(value for step, value in trial.intermediate_values.items() if step <= reached)
    )
