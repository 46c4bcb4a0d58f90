"""What TPE makes of trials that still run, and of those stopped where rungs count seconds."""

from typing import Any

import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_pruned_trials
from optuna.trial import TrialState, create_trial

from busi_tune.config import Config
from busi_tune.settings import override
from busi_tune.study.pruners import last_rung
from busi_tune.study.samplers import RepeatableSampler, RungTPESampler, _at_rungs, build_sampler

LR = optuna.distributions.FloatDistribution(0.0, 1.0)
MAXIMISE, MINIMISE = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE


def add_pruned(study: optuna.Study, lr: float, values: dict[int, float]) -> None:
    study.add_trial(
        create_trial(
            state=TrialState.PRUNED,
            params={"lr": lr},
            distributions={"lr": LR},
            intermediate_values=values,
        )
    )


def test_a_stopped_trial_ends_at_its_last_rung_with_its_best_value_there() -> None:
    study = optuna.create_study()
    add_pruned(study, 0.5, {20_000: 0.6, 41_000: 0.2, 125_000: 0.4, 130_000: 0.9})
    add_pruned(study, 0.5, {20_000: 0.6})
    first, second = study.trials
    assert last_rung(first, 40_000, 3, MAXIMISE) == {120_000: 0.6}
    assert last_rung(first, 40_000, 3, MINIMISE) == {120_000: 0.2}
    assert last_rung(second, 40_000, 3, MAXIMISE) == {}


def test_of_trials_stopped_at_one_rung_the_best_is_good_not_the_slowest() -> None:
    study = optuna.create_study(direction="maximize")
    for value, milliseconds in ((0.7, 40_050), (0.3, 45_000), (0.1, 87_362)):
        add_pruned(study, value, {milliseconds: value})
    view = _at_rungs(study, 40_000, 3)
    good, _ = _split_pruned_trials(view._get_trials(), view, 1)
    assert [trial.params["lr"] for trial in good] == [0.7]
    slow, _ = _split_pruned_trials(study.get_trials(), study, 1)
    assert [trial.params["lr"] for trial in slow] == [0.1]


@pytest.mark.parametrize("multivariate", [True, False])
def test_proposals_come_from_where_values_are_good(multivariate: bool) -> None:
    config = override(Config(), {"search.rung_unit": "seconds", "search.min_seconds": 40.0})
    study = optuna.create_study(direction="maximize")
    for number in range(40):
        lr = number / 40
        # The better the setting the shorter its epochs.
        add_pruned(study, lr, {round(60_000 - 15_000 * lr): lr})
    proposed = []
    for number in range(20):
        sampler = build_sampler(config.search, 0, [], number)
        assert isinstance(sampler, RepeatableSampler)
        assert isinstance(sampler._together, RungTPESampler)
        if not multivariate:
            sampler.sample_relative = lambda *given: {}  # type: ignore[method-assign]
        study.sampler = sampler
        proposed.append(study.ask({"lr": LR}).params["lr"])
    assert sum(proposed) / len(proposed) > 0.65


def test_settings_under_conditions_are_proposed_together_with_the_others() -> None:
    study = optuna.create_study()
    for name in ("dropout", "base_width"):
        both = {"lr": LR, name: LR}
        study.add_trial(
            create_trial(value=0.5, params=dict.fromkeys(both, 0.5), distributions=both)
        )
    sampler = build_sampler(Config().search, 0, [], 2)
    together = sampler.infer_relative_search_space(study, study.ask())
    assert set(together) == {"lr", "dropout", "base_width"}


def num_proposed_near_the_best(running: list[float]) -> int:
    """Count proposals of ten seeds near 0.7, where values are best, while others run."""
    proposed = []
    for seed in range(10):
        study = optuna.create_study(direction="maximize")
        for lr in (number / 20 for number in range(20)):
            known: dict[str, Any] = {"params": {"lr": lr}, "distributions": {"lr": LR}}
            study.add_trial(create_trial(value=-abs(lr - 0.7), **known))
        for lr in running:
            known = {"params": {"lr": lr}, "distributions": {"lr": LR}}
            study.add_trial(create_trial(state=TrialState.RUNNING, **known))
        study.sampler = build_sampler(Config().search, seed, [], 20)
        proposed.append(study.ask({"lr": LR}).params["lr"])
    return sum(abs(lr - 0.7) < 0.05 for lr in proposed)


def test_trials_are_proposed_apart_from_those_that_still_run() -> None:
    assert num_proposed_near_the_best(running=[]) >= 8
    assert num_proposed_near_the_best(running=[0.68, 0.7, 0.72]) <= 2


@pytest.mark.parametrize("num_before", [3, 25])
@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_a_trial_killed_between_two_parameters_goes_on_to_the_same_ones(
    sampler: str, num_before: int
) -> None:
    search = override(Config(), {"search.sampler": sampler}).search
    every = {name: LR for name in ("lr", "dropout", "width", "decay")}

    def propose(killed_after: int | None) -> dict[str, Any]:
        study = optuna.create_study()
        for number in range(num_before):
            # `decay` was drawn half of the times only, as a setting under a condition is.
            drawn = dict(list(every.items())[: 3 + number % 2])
            values = {name: number / num_before for name in drawn}
            study.add_trial(create_trial(value=values["lr"], params=values, distributions=drawn))
        study.sampler = build_sampler(search, 0, [], num_before)
        trial = study.ask()
        for name in list(every)[:killed_after]:
            trial.suggest_float(name, 0.0, 1.0)
        if killed_after is not None:
            study.sampler = build_sampler(search, 0, [], num_before)
            trial = optuna.trial.Trial(study, trial._trial_id)
        return {name: trial.suggest_float(name, 0.0, 1.0) for name in every}

    at_once = propose(killed_after=None)
    assert len(set(at_once.values())) > 1
    assert [propose(killed_after=count) for count in (0, 1, 2, 3)] == [at_once] * 4
