"""Pruners on studies written by hand: trials are curves of (step, value)."""

import math
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from busi_tune.config import Config
from busi_tune.settings import override
from busi_tune.study.pruners import HalvingPruner, HyperbandPruner, build_pruner, step_of

Curve = Sequence[tuple[int, float]]


def make_study(curves: Sequence[Curve], direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for curve in curves:
        trial = study.ask()
        for step, value in curve:
            trial.report(value, step)
    return study


def is_pruned(pruner: optuna.pruners.BasePruner, study: optuna.Study, number: int) -> bool:
    return pruner.prune(study, study.get_trials(deepcopy=False)[number])


def test_a_rung_in_seconds_is_reached_by_the_first_report_beyond_it() -> None:
    # The rung lies at 30 s: the dear model comes to it at 40 s, the cheap one at 31 s.
    cheap = [(11_000, 0.2), (21_000, 0.3), (31_000, 0.4), (41_000, 0.9)]
    dear = [(40_000, 0.35)]
    study = make_study([cheap, dear])
    assert is_pruned(HalvingPruner(30_000, 2), study, 1)
    # What the cheap one did after the rung is not held against the dear one.
    study = make_study([cheap, [(40_000, 0.5)]])
    assert not is_pruned(HalvingPruner(30_000, 2), study, 1)


@pytest.mark.parametrize("state", [s for s in TrialState if s != TrialState.WAITING], ids=str)
def test_a_failed_trial_is_no_competitor(state: TrialState) -> None:
    study = optuna.create_study(direction="maximize")
    value = 0.9 if state == TrialState.COMPLETE else None
    study.add_trial(create_trial(state=state, value=value, intermediate_values={3: 0.9}))
    study.ask().report(0.1, 3)
    assert is_pruned(HalvingPruner(3, 2), study, 1) is (state != TrialState.FAIL)


def test_between_rungs_every_trial_goes_on() -> None:
    good = [(10, 0.9), (20, 0.9), (30, 0.9)]
    study = make_study([good, [(10, 0.9), (20, 0.1)]])
    assert not is_pruned(HalvingPruner(10, 3), study, 1)
    study = make_study([good, [(10, 0.1), (20, 0.1), (30, 0.1)]])
    assert is_pruned(HalvingPruner(10, 3), study, 1)


def test_a_report_that_passes_two_rungs_is_judged_at_the_higher() -> None:
    passes_both = [(95, 0.5)]
    slow_starter = [(10, 0.1), (30, 0.2), (90, 0.6)]
    study = make_study([slow_starter, passes_both])
    assert is_pruned(HalvingPruner(10, 3), study, 1)
    study = make_study([[(10, 0.9), (30, 0.9)], passes_both])
    assert not is_pruned(HalvingPruner(10, 3), study, 1)


def test_at_its_end_no_trial_is_stopped() -> None:
    study = make_study([[(10, 0.9), (30, 0.9)], [(10, 0.1), (30, 0.1)]])
    assert is_pruned(HalvingPruner(10, 3), study, 1)
    assert not is_pruned(HalvingPruner(10, 3, last=30), study, 1)


@pytest.mark.parametrize(("direction", "pruned"), [("maximize", True), ("minimize", False)])
def test_direction_decides_what_is_better(direction: str, pruned: bool) -> None:
    study = make_study([[(3, 0.9)], [(3, 0.1)]], direction)
    assert is_pruned(HalvingPruner(3, 2), study, 1) is pruned


def test_hyperband_has_brackets_that_begin_later_and_compares_within_them() -> None:
    pruner = HyperbandPruner(1, 27, 3)
    study = make_study([[(1, 1 - number / 100)] for number in range(60)])
    trials = study.get_trials(deepcopy=False)
    brackets = [pruner._bracket(trial) for trial in trials]
    assert set(brackets) == {0, 1, 2, 3}
    assert brackets.count(0) > brackets.count(2)
    pruned = {number for number in range(60) if is_pruned(pruner, study, number)}
    # At step 1 only the first bracket decides, and of it the best third stays.
    first = [number for number in range(60) if brackets[number] == 0]
    assert pruned == set(first[len(first) // 3 :])


def test_hyperband_gives_a_trial_the_same_bracket_in_every_process() -> None:
    study = make_study([[(1, 0.5)] for _ in range(20)])
    first, again = (
        [HyperbandPruner(1, 27, 3)._bracket(trial) for trial in study.get_trials(deepcopy=False)]
        for _ in range(2)
    )
    assert first == again


def test_hyperband_without_room_for_rungs_stops_nothing() -> None:
    study = make_study([[(3, 0.9)], [(3, 0.1)]])
    assert not is_pruned(HyperbandPruner(3, 3, 3), study, 1)


@pytest.mark.parametrize("unit", ["epochs", "seconds"])
@pytest.mark.parametrize("name", ["halving", "hyperband", "none"])
def test_every_pruner_is_built_for_both_units_and_stops_the_worse(name: str, unit: str) -> None:
    settings = {"search.pruner": name, "search.rung_unit": unit, "search.min_epochs": 2}
    settings |= {"search.min_seconds": 2.0, "training.max_seconds": 4.0, "training.epochs": 4}
    pruner = build_pruner(override(Config(), settings))
    steps = [step_of({"epoch": epoch, "seconds": 1.0 * epoch}, unit) for epoch in (1, 2, 3, 4)]
    good = [(step, 0.9) for step in steps]
    study = make_study([good] * 6 + [[(step, 0.1) for step in steps[:2]]])
    assert is_pruned(pruner, study, 6) is (name != "none")


@pytest.mark.parametrize("entry", [[4, 27], {"low": 4, "high": 27}])
def test_rungs_go_on_to_the_end_of_the_longest_training_that_the_space_can_draw(entry: Any) -> None:
    settings = {"training.epochs": 4, "search.min_epochs": 3, "search.pruner": "halving"}
    study = make_study([[(3, 0.9), (9, 0.9)], [(3, 0.1), (9, 0.1)]])
    assert not is_pruned(build_pruner(override(Config(), settings)), study, 1)
    settings |= {"search.space": {"training.epochs": entry}}
    assert is_pruned(build_pruner(override(Config(), settings)), study, 1)


def test_the_median_pruner_waits_for_the_first_epochs() -> None:
    settings = {"search.pruner": "median", "search.min_epochs": 3}
    pruner = build_pruner(override(Config(), settings))
    good = [(step, 0.9) for step in (1, 2, 3)]
    curves = [good] * 6 + [[(1, 0.1), (2, 0.1)], [(1, 0.1), (2, 0.1), (3, 0.1)]]
    study = optuna.create_study(direction="maximize")
    for number, curve in enumerate(curves):
        trial = study.ask()
        for step, value in curve:
            trial.report(value, step)
        if number < 6:
            study.tell(trial, 0.9)
    assert not is_pruned(pruner, study, 6)
    assert is_pruned(pruner, study, 7)


def test_a_value_that_is_no_number_is_stopped_at_its_rung() -> None:
    study = make_study([[(3, 0.9)], [(3, math.nan)]], "minimize")
    assert is_pruned(HalvingPruner(3, 2), study, 1)


def test_steps_are_epochs_or_milliseconds() -> None:
    metrics = {"epoch": 3.0, "seconds": 12.3456}
    assert step_of(metrics, "epochs") == 3
    assert step_of(metrics, "seconds") == 12346
