"""How settings are proposed: a sampler made anew for each trial.

One seed for all trials would propose the same points again after every resume, and seeds that count
up would make the next search's trials those of this one.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from busi_tune.config_jobs import SearchConfig
from busi_tune.data.seeds import derive_seed

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = _build(search, derive_seed("sampler", seed, number) % 2**32)
        if number < len(starts):
            return optuna.samplers.PartialFixedSampler(dict(starts[number]), sampler)
        return sampler


def _build(search: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if search.sampler == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=NUM_RANDOM, warn_independent_sampling=False
        )
    if search.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=2 * NUM_RANDOM)
    return optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=NUM_RANDOM
    )
