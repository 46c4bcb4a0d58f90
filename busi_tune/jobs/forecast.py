"""How long a run will take and how much it will keep, from what single trainings cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from busi_tune.config import Config
from busi_tune.config_jobs import SearchConfig
from busi_tune.jobs.measure import Cost
from busi_tune.search_rules import read_duration
from busi_tune.study.pruners import HyperbandPruner, build_pruner
from busi_tune.training.disk import CheckpointBytes


@dataclass(frozen=True)
class Part:
    """A part of a run's trainings."""

    models: Mapping[str, Config]
    """The configurations to measure, which share the trainings evenly; of a search, samples."""
    num_trainings: int
    """Trainings of full length."""
    num_trials: int = 0
    """Trials of a search before them."""
    num_kept: int = 0
    """Trainings of these trials that leave a checkpoint."""


@dataclass(frozen=True)
class Forecast:
    """What to expect of a part of a run."""

    trial_seconds: float
    """Wall clock of all trials, within the budget."""
    training_seconds: float
    """Wall clock of the trainings of full length."""
    trial_share: float
    """Of what the trials would take if none was stopped."""
    disk_bytes: int
    """Checkpoints kept at one time."""


def plan_search(
    samples: Mapping[str, Config], baselines: Mapping[str, Config], search: SearchConfig
) -> list[Part]:
    """Return what a search trains: its trials, the refits of the best, and the baselines'."""
    refits = min(search.refit, search.num_trials) * search.refit_seeds
    leading = min(max(1, search.refit), search.num_trials) * search.inner_folds
    parts = [Part(samples, refits, search.num_trials, leading)]
    if baselines and search.refit:
        parts.append(Part(baselines, len(baselines) * search.refit_seeds))
    return parts


def forecast(part: Part, measured: Sequence[Cost], at_a_time: int) -> Forecast:
    """Forecast a part of a run from a measurement of each of its configurations."""
    mean = _mean([each.seconds for each in measured])
    trials = _mean([trial_seconds(each) for each in measured])
    search = measured[0].config.search
    whole = mean * search.inner_folds
    budget = read_duration(search.budget) or math.inf
    sizes = [each.checkpoints for each in measured]
    return Forecast(
        min(_wall_clock(part.num_trials, trials, at_a_time), budget),
        math.ceil(part.num_trainings / at_a_time) * mean,
        trials / whole,
        disk_bytes(part, sizes, at_a_time),
    )


def disk_bytes(part: Part, sizes: Sequence[CheckpointBytes], at_a_time: int) -> int:
    """Forecast what the checkpoints of a part of a run take at one time.

    Args:
        part: of the run.
        sizes: of the checkpoints of each of its configurations.
        at_a_time: trainings under way at a time.
    """
    last, best = max(each.last for each in sizes), max(each.best for each in sizes)
    running = min(at_a_time, max(part.num_trials, part.num_trainings))
    # The best checkpoint of a training under way is counted where it will be kept.
    of_running = last + (best if part.num_trials else 0)
    return running * of_running + (part.num_kept + part.num_trainings) * best


def trial_seconds(trial: Cost) -> float:
    """Return the expected time of a trial: cut short by the pruner, else with all inner folds."""
    share, survivors = expected_share(trial)
    return trial.seconds * (share + survivors * (trial.config.search.inner_folds - 1))


def expected_share(trial: Cost) -> tuple[float, float]:
    """Return the share of a training that a pruner leaves, and the share of trials it spares.

    Halving keeps 1 / factor at each rung, the median half of the trials after its warm-up.
    """
    search = trial.config.search
    seconds = search.rung_unit == "seconds"
    first = search.min_seconds if seconds else search.min_epochs
    length = trial.seconds if seconds else trial.seconds / trial.epoch_seconds
    if search.pruner == "none" or len(search.objectives) > 1:
        return 1.0, 1.0
    if search.pruner == "median":
        return _halve([first], length, 2)
    pruner = build_pruner(trial.config)
    shares = pruner.shares if isinstance(pruner, HyperbandPruner) else (1,)
    brackets = [
        _halve(_rungs(first * search.reduction_factor**bracket, length, search), length,
               search.reduction_factor)
        for bracket in range(len(shares))
    ]  # fmt: skip
    weights = [share / sum(shares) for share in shares]
    kept, survivors = zip(*brackets, strict=True)
    return _weigh(kept, weights), _weigh(survivors, weights)


def _rungs(first: float, length: float, search: SearchConfig) -> list[float]:
    rungs = []
    while first < length:
        rungs.append(first)
        first *= search.reduction_factor
    return rungs


def _halve(rungs: Sequence[float], length: float, factor: int) -> tuple[float, float]:
    """Return the mean length, as a share, of trials of which 1 / factor passes each rung."""
    rungs = [rung for rung in rungs if rung < length]
    stretches = zip([0.0, *rungs], [*rungs, length], strict=True)
    mean = sum((end - start) / factor**k for k, (start, end) in enumerate(stretches))
    return mean / length, 1 / factor ** len(rungs)


def _wall_clock(number: int, seconds: float, at_a_time: int) -> float:
    """Slots are refilled at once, but one training is not parted."""
    return max(number / at_a_time, min(number, 1)) * seconds


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _weigh(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True))
