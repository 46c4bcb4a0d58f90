from pathlib import Path

import optuna
import pytest

from busi_tune.config import Config
from busi_tune.search_rules import read_duration
from busi_tune.settings import override
from busi_tune.study.limits import Limits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_limits(study: optuna.Study, clock: Clock, **search: object) -> Limits:
    config = override(Config(), {f"search.{name}": value for name, value in search.items()})
    return Limits(study, config, clock)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("45s", 45), ("1h30m", 5400), ("1.5h", 5400), ("", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["2", "2 h", "0s", "h", "30m1h", "-5m", "soon"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is a time such as 2h"):
        read_duration(text)


def test_time_counts_over_all_starts() -> None:
    study, clock = optuna.create_study(), Clock()
    limits = make_limits(study, clock, budget="60s")
    clock.now += 40
    assert not limits.is_reached()
    assert limits.seconds_left() == 20
    limits.note()
    clock.now += 1000  # between two starts
    limits = make_limits(study, clock, budget="60s")
    assert not limits.is_reached()
    clock.now += 20
    assert limits.is_over_time()
    assert limits.is_reached()


def test_time_is_noted_while_a_trial_goes_on_so_that_a_kill_costs_seconds() -> None:
    study, clock = optuna.create_study(), Clock()
    limits = make_limits(study, clock, budget="60s")
    for _ in range(13):
        clock.now += 2
        limits.note_now_and_then()
    left = make_limits(study, clock, budget="60s").seconds_left()
    assert left is not None and 34 <= left <= 39
    unlimited = optuna.create_study()
    limits = make_limits(unlimited, clock)
    clock.now += 100
    limits.note_now_and_then()
    assert "seconds" not in unlimited.user_attrs


def test_time_that_has_run_out_stays_so_without_a_note() -> None:
    study, clock = optuna.create_study(), Clock()
    limits = make_limits(study, clock, budget="60s")
    clock.now += 60
    assert limits.is_over_time()
    assert make_limits(study, clock, budget="60s").is_over_time()
    assert not make_limits(study, clock, budget="2m").is_over_time()


def test_without_limits_none_is_reached(tmp_path: Path) -> None:
    clock = Clock()
    limits = make_limits(optuna.create_study(), clock)
    clock.now += 1e9
    assert not limits.is_reached()
    assert limits.seconds_left() is None


@pytest.mark.parametrize(("direction", "target"), [("maximize", 0.7), ("minimize", 0.3)])
def test_a_target_ends_the_search_but_not_what_runs(direction: str, target: float) -> None:
    study = optuna.create_study(direction=direction)
    limits = make_limits(study, Clock(), target=target)
    study.tell(study.ask(), 0.5)
    assert not limits.is_reached()
    study.tell(study.ask(), target)
    assert limits.is_reached()
    assert not limits.is_over_time()
