"""What a search optimises, and in which direction."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from busi_tune.config import Config

MONITOR = "monitor"
COSTS = {"parameters": "num_parameters", "milliseconds": "milliseconds_per_image"}
"""Objectives beside the monitor, both to be small, and where a result holds them."""


def directions(config: Config) -> list[StudyDirection]:
    """Return Optuna's direction of each objective."""
    minimised = config.training.monitor == "val_loss"
    monitor = StudyDirection.MINIMIZE if minimised else StudyDirection.MAXIMIZE
    names = config.search.objectives
    return [monitor if name == MONITOR else StudyDirection.MINIMIZE for name in names]


def read_values(result: Mapping[str, Any], objectives: list[str]) -> list[float]:
    """Read the objectives of a finished trial; NaN where it has none."""
    fields = {MONITOR: "best_value"} | COSTS
    return [_number(result.get(fields[name])) for name in objectives]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial with the best first objective, of equals the earliest."""
    return next(iter(leading_trials(study, 1)), None)


def leading_trials(study: optuna.Study, number: int) -> list[FrozenTrial]:
    """Return the best complete trials by the first objective, best first."""
    sign = sign_of(study)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: (-sign * trial.values[0], trial.number))[:number]


def sign_of(study: optuna.Study) -> int:
    """Return 1 where the first objective is to be large, else -1."""
    return 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
