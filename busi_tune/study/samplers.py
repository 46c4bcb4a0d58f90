"""How settings are proposed: a sampler made anew for each trial.

One seed for all trials would propose the same points again after every resume, and seeds that count
up would make the next search's trials those of this one.
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from busi_tune.config_jobs import SearchConfig
from busi_tune.data.seeds import derive_seed
from busi_tune.study.pruners import MILLISECONDS, last_rung

NUM_RANDOM = 10
"""Trials at random before a model of the space is trusted."""


def build_sampler(
    search: SearchConfig, seed: int, starts: Sequence[Mapping[str, Any]], number: int
) -> optuna.samplers.BaseSampler:
    """Build the sampler of a trial.

    Args:
        search: the search's settings.
        seed: of the whole search.
        starts: the known configurations, searched settings alone; they are the first trials.
        number: of the trial.
    """
    sampler = RepeatableSampler(search, seed, number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if number < len(starts):
            return optuna.samplers.PartialFixedSampler(dict(starts[number]), sampler)
        return sampler


class RepeatableSampler(optuna.samplers.BaseSampler):
    """The search's sampler with generators of their own for each parameter that is drawn alone.

    Optuna writes a trial's parameters one by one. With one generator for all of them, a trial that
    was killed in between would go on with other values than those it was about to have. (TPE and
    GP propose others all the same where another trial has ended in the meantime.)
    """

    def __init__(self, search: SearchConfig, seed: int, number: int) -> None:
        self._search = search
        self._numbers = (seed, number)
        self._together = self._build("sampler")

    def _build(self, purpose: str) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _build(self._search, derive_seed(purpose, *self._numbers) % 2**32)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Find the parameters that are sampled together."""
        return self._together.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Propose values of the parameters that are sampled together.

        GP would keep away from what the trial itself was about to have before it was killed.
        """
        others = _view(study, lambda other: None if other.number == trial.number else other)
        return self._together.sample_relative(others, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Propose the value of one parameter, whichever were drawn before it."""
        alone = self._build(f"sampler of {param_name}")
        return alone.sample_independent(study, trial, param_name, param_distribution)


def _build(search: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=NUM_RANDOM, warn_independent_sampling=False
        )
    if search.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=2 * NUM_RANDOM)
    sampler = optuna.samplers.TPESampler if search.rung_unit == "epochs" else RungTPESampler
    tpe = sampler(
        seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=NUM_RANDOM
    )
    if isinstance(tpe, RungTPESampler):
        tpe.rungs = (search.min_seconds * MILLISECONDS, search.reduction_factor)
    return tpe


class RungTPESampler(optuna.samplers.TPESampler):
    """TPE for rungs in seconds: a pruned trial counts by its last rung and its best value there.

    Optuna ranks pruned trials by their last step and by value only among equals. Milliseconds are
    never equal, so that the slowest epochs would pass for the best settings.
    """

    rungs: tuple[float, int]
    """The first rung in milliseconds, and the factor between rungs."""

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Propose values of the parameters that are sampled together."""
        return super().sample_relative(_at_rungs(study, *self.rungs), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Propose the value of one parameter."""
        view = _at_rungs(study, *self.rungs)
        return super().sample_independent(view, trial, param_name, param_distribution)


def _at_rungs(study: optuna.Study, first: float, factor: int) -> optuna.Study:
    """Return a view of a study whose pruned trials end at the last rung that they came to.

    Of several objectives none is stopped at rungs, and TPE ranks by the front.
    """
    if len(study.directions) > 1:
        return study

    def show(trial: FrozenTrial) -> FrozenTrial:
        if trial.state != TrialState.PRUNED:
            return trial
        shown = copy.copy(trial)
        shown.intermediate_values = last_rung(trial, first, factor, study.direction)
        return shown

    return _view(study, show)


def _view(study: optuna.Study, show: Callable[[FrozenTrial], FrozenTrial | None]) -> optuna.Study:
    """Return the study with each of its trials as it is shown, or without it."""
    view = copy.copy(study)
    read = study._get_trials
    view._get_trials = lambda *given, **named: [  # type: ignore[method-assign]
        shown for trial in read(*given, **named) if (shown := show(trial)) is not None
    ]
    return view
