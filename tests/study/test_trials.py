import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from busi_tune.config import Config
from busi_tune.plan import Outcome, Training
from busi_tune.search_space import compile_space
from busi_tune.settings import override
from busi_tune.study.objectives import best_trial
from busi_tune.study.storage import open_study
from busi_tune.study.tables import trials_table
from busi_tune.study.trials import StudyPlan

SPACE = compile_space({"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}})
Curve = Callable[[Training, int], float]


def make_config(**search: Any) -> Config:
    config = override(Config(), {f"search.{name}": value for name, value in search.items()})
    config.training.epochs = 9
    return config


def make_plan(study: optuna.Study, config: Config, folder: Path) -> StudyPlan:
    def place(number: int, settings: Mapping[str, Any]) -> list[Training]:
        resolved = override(config, settings)
        identity = {"trial": number, "key": f"key{number}"}
        return [Training(f"trial {number}", identity, resolved, "search", folder / f"key{number}")]

    return StudyPlan(study, config, SPACE, place)


def value_of(training: Training, epoch: int) -> float:
    """A curve whose peak lies at a learning rate of 1e-3 and which rises with the epochs."""
    distance = abs(math.log10(training.config.optimizer.lr) + 3) / 5
    return (1 - distance) * (1 - 1 / (epoch + 1))


def run_training(plan: StudyPlan, training: Training, curve: Curve = value_of) -> None:
    for epoch in range(1, training.config.training.epochs + 1):
        value = curve(training, epoch)
        if plan.on_epoch(training, {"epoch": epoch, "val_dice": value}):
            plan.on_end(training, Outcome("pruned", {"best_value": value, "epochs": epoch}))
            return
    plan.on_end(training, Outcome("finished", {"best_value": value, "epochs": epoch}))


def run_all(plan: StudyPlan) -> None:
    while training := plan.next_training():
        run_training(plan, training)


def test_every_trial_ends_once_and_bad_ones_are_pruned(tmp_path: Path) -> None:
    config = make_config(num_trials=20, sampler="random")
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        run_all(plan)
        table = trials_table(study, SPACE)
    assert plan.num_open() == 0
    assert table["trial"].tolist() == list(range(20))
    assert set(table["state"]) == {"COMPLETE", "PRUNED"}
    best = table.loc[table["value"].idxmax(), "optimizer.lr"]
    assert abs(math.log10(best) + 3) < 0.5


def test_an_interrupted_trial_goes_on_under_its_number_and_settings(tmp_path: Path) -> None:
    config = make_config(num_trials=4, sampler="random")
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        first = plan.next_training()
        assert first is not None
        plan.on_epoch(first, {"epoch": 1, "val_dice": 0.25})
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        assert plan.num_open() == 4
        again = plan.next_training()
        assert again is not None
        assert (again.name, again.config) == (first.name, first.config)
        plan.on_epoch(again, {"epoch": 1, "val_dice": 0.99})  # heard before: kept as it was
        run_training(plan, again)
        run_all(plan)
        trials = study.get_trials()
    assert trials[0].intermediate_values[1] == 0.25
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert not any(trial.state == optuna.trial.TrialState.RUNNING for trial in trials)


def test_a_trial_killed_before_its_settings_were_drawn_gets_them_on_resume(tmp_path: Path) -> None:
    config = make_config(num_trials=2, sampler="random")
    with open_study(tmp_path / "study.db", config) as study:
        study.ask()
    with open_study(tmp_path / "study.db", config) as study:
        run_all(make_plan(study, config, tmp_path))
        assert trials_table(study, SPACE)["optimizer.lr"].notna().all()


def test_a_resumed_search_draws_the_same_settings_as_an_uninterrupted_one(tmp_path: Path) -> None:
    config = make_config(num_trials=12, sampler="tpe")
    with open_study(tmp_path / "whole.db", config) as study:
        run_all(make_plan(study, config, tmp_path))
        whole = trials_table(study, SPACE)["optimizer.lr"].tolist()
    for _ in range(12):
        with open_study(tmp_path / "pieces.db", config) as study:
            plan = make_plan(study, config, tmp_path)
            training = plan.next_training()
            assert training is not None
            run_training(plan, training)
            pieces = trials_table(study, SPACE)["optimizer.lr"].tolist()
    assert pieces == whole


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("failed", {}, "FloatingPointError: loss is nan in epoch 2"),
        Outcome("finished", {"best_value": math.nan}),
    ],
)
def test_a_failed_trial_is_told_with_its_reason(tmp_path: Path, outcome: Outcome) -> None:
    config = make_config(num_trials=2)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        plan.on_end(training, outcome)
        run_all(plan)
        table = trials_table(study, SPACE)
    assert table["state"].tolist() == ["FAIL", "COMPLETE"]
    assert table["reason"][0]


def test_a_trial_killed_before_its_failure_was_told_completes_without_its_reason(
    tmp_path: Path,
) -> None:
    config = make_config(num_trials=1)
    with open_study(tmp_path / "study.db", config) as study, pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "tell", raise_kill)
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        with pytest.raises(KeyboardInterrupt):
            plan.on_end(training, Outcome("failed", {}, "its worker died"))
    with open_study(tmp_path / "study.db", config) as study:
        run_all(make_plan(study, config, tmp_path))
        table = trials_table(study, SPACE)
    assert table[["state", "reason"]].to_numpy().tolist() == [["COMPLETE", ""]]


def raise_kill(*arguments: Any, **named: Any) -> None:
    raise KeyboardInterrupt


def test_halving_keeps_the_best_third_at_a_rung(tmp_path: Path) -> None:
    config = make_config(num_trials=9, sampler="random", min_epochs=2, reduction_factor=3)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        trainings = [plan.next_training() for _ in range(9)]
        stopped = []
        for rank, training in enumerate(trainings):
            assert training is not None
            plan.on_epoch(training, {"epoch": 1, "val_dice": 0.1})
            stopped.append(plan.on_epoch(training, {"epoch": 2, "val_dice": 0.9 - rank / 10}))
    assert stopped == [False, *[True] * 4, True, True, True, True]


def test_halving_looks_at_the_best_value_so_far(tmp_path: Path) -> None:
    config = make_config(num_trials=2, sampler="random", min_epochs=2)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        steady, spiky = plan.next_training(), plan.next_training()
        assert steady is not None and spiky is not None
        for epoch, value in ((1, 0.4), (2, 0.5)):
            assert not plan.on_epoch(steady, {"epoch": epoch, "val_dice": value})
        for epoch, value in ((1, 0.8), (2, 0.1)):
            assert not plan.on_epoch(spiky, {"epoch": epoch, "val_dice": value})


def test_a_loss_is_minimised(tmp_path: Path) -> None:
    config = make_config(num_trials=6, sampler="random", min_epochs=1)
    config.training.monitor = "val_loss"
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        good, bad = plan.next_training(), plan.next_training()
        assert good is not None and bad is not None
        assert not plan.on_epoch(good, {"epoch": 1, "val_loss": 0.2})
        assert plan.on_epoch(bad, {"epoch": 1, "val_loss": 0.3})


@pytest.mark.parametrize(("monitor", "best"), [("val_dice", 1), ("val_loss", 3)])
def test_the_best_trial_is_complete_and_of_equals_the_earliest(
    tmp_path: Path, monitor: str, best: int
) -> None:
    config = make_config(num_trials=6, sampler="random")
    config = override(config, {"training.monitor": monitor})
    with open_study(tmp_path / "study.db", config) as study:
        assert best_trial(study) is None
        plan = make_plan(study, config, tmp_path)
        for value in (0.4, 0.6, 0.6, 0.2, 0.2, None):
            training = plan.next_training()
            assert training is not None
            outcome = Outcome("pruned" if value is None else "finished", {"best_value": value or 9})
            plan.on_end(training, outcome)
        winner = best_trial(study)
    assert winner is not None and winner.number == best


def test_one_file_holds_the_study_afterwards(tmp_path: Path) -> None:
    config = make_config(num_trials=2, sampler="random")
    with open_study(tmp_path / "study.db", config) as study:
        run_all(make_plan(study, config, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/study.db")
    assert len(loaded.trials) == 2
