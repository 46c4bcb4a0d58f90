"""Trials of several inner folds, known starts, objectives and budgets, driven by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from busi_tune.config import Config
from busi_tune.plan import Outcome, Training
from busi_tune.search_space import compile_space
from busi_tune.settings import override
from busi_tune.study.objectives import best_trial, leading_trials
from busi_tune.study.samplers import NUM_RANDOM
from busi_tune.study.storage import open_study
from busi_tune.study.tables import trials_table
from busi_tune.study.trials import OVER_TIME, StudyPlan

SPACE = compile_space(
    {
        "model.architecture": ["unet", "report_cnn"],
        "model.base_width": {"low": 4, "high": 64, "when": {"model.architecture": ["unet"]}},
        "optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    }
)
NUM_IMAGES = 20


def make_config(**search: Any) -> Config:
    settings = {"sampler": "random", "num_trials": 3, **search}
    return override(Config(), {f"search.{name}": value for name, value in settings.items()})


def make_plan(study: optuna.Study, config: Config, folder: Path, starts: Any = ()) -> StudyPlan:
    def place(number: int, settings: Mapping[str, Any]) -> list[Training]:
        return [
            Training(
                f"trial {number} fold {fold}",
                {"trial": number, "fold": fold},
                override(config, settings),
                f"search/fold-{fold}",
                folder / f"{number}-{fold}",
            )
            for fold in range(config.search.inner_folds)
        ]

    return StudyPlan(study, config, SPACE, place, starts=starts)


def finish(plan: StudyPlan, training: Training, dice: float, **result: Any) -> None:
    """End a training whose images all have about the same Dice."""
    fold = training.identity["fold"]
    noise = np.random.default_rng(training.identity["trial"]).normal(0, 0.01, NUM_IMAGES)
    names = [f"{fold}-{number}" for number in range(NUM_IMAGES)]
    rows = pd.DataFrame({"image": names, "group": names, "part": "validation", "tp": 1, "fn": 1})
    training.folder.mkdir(parents=True, exist_ok=True)
    rows.assign(dice=dice + noise).to_csv(training.folder / "images.csv", index=False)
    whole = {"best_value": dice, "epochs": 4, "seconds": 2.0, "num_parameters": 10}
    plan.on_end(training, Outcome("finished", {**whole, **result}))


def test_a_trial_trains_fold_by_fold_and_is_worth_their_mean(tmp_path: Path) -> None:
    config = make_config(inner_folds=3, num_trials=1)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        for fold, dice in enumerate((0.5, 0.6, 0.7)):
            assert plan.num_open() == 3 - fold
            training = plan.next_training()
            assert training is not None and training.identity == {"trial": 0, "fold": fold}
            assert plan.next_training() is None
            finish(plan, training, dice)
        assert plan.num_open() == 0
        (row,) = trials_table(study, SPACE).to_dict("records")
    assert row["value"] == pytest.approx(0.6)
    assert (row["epochs"], row["seconds"], row["key"]) == (12, 6.0, "0-0 0-1 0-2")


@pytest.mark.parametrize("num_known", [1, 2])
def test_the_race_stops_what_cannot_win_and_is_not_known(tmp_path: Path, num_known: int) -> None:
    known = [{"optimizer.lr": 1e-3}, {"optimizer.lr": 1e-4}][:num_known]
    config = make_config(inner_folds=2, num_trials=3)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path, known)
        while training := plan.next_training():
            finish(plan, training, 0.5 if training.identity["trial"] else 0.7)
        table = trials_table(study, SPACE)
    assert table["state"].tolist() == ["COMPLETE"] * num_known + ["PRUNED"] * (3 - num_known)
    assert table["reason"][2] == "beaten by trial 0 after 1 folds"


@pytest.mark.parametrize("reason", ["several objectives", "the best is being made anew"])
def test_without_a_fair_comparison_no_trial_is_beaten(tmp_path: Path, reason: str) -> None:
    settings: dict[str, Any] = {"inner_folds": 2, "num_trials": 2}
    if reason == "several objectives":
        settings |= {"objectives": ["monitor", "parameters"], "pruner": "none"}
    config = make_config(**settings)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        for dice in (0.7, 0.7, 0.5, 0.5):
            training = plan.next_training()
            assert training is not None
            finish(plan, training, dice)
            if reason != "several objectives":
                (tmp_path / "0-0" / "images.csv").unlink(missing_ok=True)
        assert set(trials_table(study, SPACE)["state"]) == {"COMPLETE"}


def test_an_interrupted_trial_goes_through_its_folds_again(tmp_path: Path) -> None:
    config = make_config(inner_folds=2, num_trials=1)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        finish(plan, training, 0.5)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        assert plan.num_open() == 2
        for dice in (0.5, 0.7):  # the first ends at once: its folder has the result
            training = plan.next_training()
            assert training is not None
            finish(plan, training, dice)
        best = best_trial(study)
    assert best is not None and best.values == [pytest.approx(0.6)]


def test_a_failed_fold_fails_the_trial(tmp_path: Path) -> None:
    config = make_config(inner_folds=2, num_trials=1)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        plan.on_end(training, Outcome("failed", {}, "out of memory"))
        assert plan.num_open() == 0
        table = trials_table(study, SPACE)
    assert table[["state", "reason"]].to_numpy().tolist() == [["FAIL", "out of memory"]]


def test_known_configurations_come_first_also_over_starts_of_the_process(tmp_path: Path) -> None:
    config = make_config()
    starts = [
        {"model.architecture": "unet", "model.base_width": 17, "optimizer.lr": 0.001},
        {"model.architecture": "report_cnn", "optimizer.lr": 0.002},
    ]
    for _ in range(3):
        with open_study(tmp_path / "study.db", config) as study:
            plan = make_plan(study, config, tmp_path, starts)
            training = plan.next_training()
            assert training is not None
            finish(plan, training, 0.5)
            trials = study.get_trials()
        starts = []  # the study keeps those of the first start
    assert trials[0].params == {
        "model.architecture": "unet", "model.base_width": 17, "optimizer.lr": 0.001,
    }  # fmt: skip
    assert trials[1].params == {"model.architecture": "report_cnn", "optimizer.lr": 0.002}
    assert trials[2].params["optimizer.lr"] not in (0.001, 0.002)


def test_no_pruner_stops_a_known_configuration(tmp_path: Path) -> None:
    """As known, it may begin slowly and end best."""
    config = make_config(num_trials=4, pruner="halving", min_epochs=1)
    known = [{"optimizer.lr": 1e-3}, {"optimizer.lr": 1e-4}]
    stopped = []
    for starts in (known, ()):
        with open_study(tmp_path / f"{len(starts)}.db", config) as study:
            plan = make_plan(study, config, tmp_path, starts)
            for value in (0.9, 0.1, 0.2, 0.95):
                training = plan.next_training()
                assert training is not None
                stopped.append(plan.on_epoch(training, {"epoch": 1, "val_dice": value}))
    assert stopped == [False, False, True, False, False, True, True, False]


def test_a_start_killed_before_its_settings_were_drawn_is_still_the_start(tmp_path: Path) -> None:
    config = make_config(num_trials=1)
    start = {"model.architecture": "report_cnn", "optimizer.lr": 0.002}
    with open_study(tmp_path / "study.db", config) as study:
        make_plan(study, config, tmp_path, [start])
        study.ask()
    with open_study(tmp_path / "study.db", config) as study:
        training = make_plan(study, config, tmp_path).next_training()
    assert training is not None
    assert training.config.model.architecture == "report_cnn"
    assert training.config.optimizer.lr == 0.002


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_every_sampler_draws_the_same_again_and_other_points_per_trial(
    tmp_path: Path, sampler: str
) -> None:
    drawn = []
    for again in range(2):
        config = make_config(sampler=sampler, num_trials=14)
        with open_study(tmp_path / f"{again}.db", config) as study:
            plan = make_plan(study, config, tmp_path / str(again))
            while training := plan.next_training():
                finish(plan, training, 0.5 + training.config.optimizer.lr)
            drawn.append([trial.params for trial in study.get_trials()])
    assert drawn[0] == drawn[1]
    assert len({params["optimizer.lr"] for params in drawn[0]}) > 10


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_searches_of_two_seeds_share_no_proposal(tmp_path: Path, sampler: str) -> None:
    drawn: list[set[float]] = []
    for seed in (0, 1):
        config = override(make_config(sampler=sampler, num_trials=10), {"seed": seed})
        with open_study(tmp_path / f"{seed}.db", config) as study:
            plan = make_plan(study, config, tmp_path / str(seed))
            while training := plan.next_training():
                finish(plan, training, 0.5 + training.config.optimizer.lr)
            drawn.append({trial.params["optimizer.lr"] for trial in study.get_trials()})
    assert not drawn[0] & drawn[1]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_several_objectives_leave_a_front_and_rank_by_the_first(
    tmp_path: Path, sampler: str
) -> None:
    objectives = ["monitor", "parameters", "milliseconds"]
    config = make_config(objectives=objectives, pruner="none", num_trials=4, sampler=sampler)
    costs = [(0.8, 30, 3.0), (0.7, 20, 2.0), (0.6, 40, 4.0), (0.5, 10, 1.0)]
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        for dice, parameters, milliseconds in costs:
            training = plan.next_training()
            assert training is not None
            assert not plan.on_epoch(training, {"epoch": 1, "val_dice": dice, "seconds": 1.0})
            cost = {"num_parameters": parameters, "milliseconds_per_image": milliseconds}
            finish(plan, training, dice, **cost)
        assert [trial.number for trial in study.best_trials] == [0, 1, 3]
        assert [trial.number for trial in leading_trials(study, 2)] == [0, 1]


def test_a_gaussian_process_proposes_for_several_objectives(tmp_path: Path) -> None:
    num_trials = NUM_RANDOM + 2
    objectives = ["monitor", "parameters"]
    config = make_config(objectives=objectives, pruner="none", num_trials=num_trials, sampler="gp")
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        for number in range(num_trials):
            training = plan.next_training()
            assert training is not None
            finish(plan, training, training.config.optimizer.lr, num_parameters=10 + number)
        assert plan.next_training() is None
        drawn = [trial.params["optimizer.lr"] for trial in study.get_trials()]
        assert min(drawn[NUM_RANDOM:]) > sorted(drawn[:NUM_RANDOM])[NUM_RANDOM // 2]


def test_a_trial_without_one_of_the_objectives_fails(tmp_path: Path) -> None:
    config = make_config(objectives=["monitor", "milliseconds"], pruner="none", num_trials=1)
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        finish(plan, training, 0.5)
        assert trials_table(study, SPACE)["state"].tolist() == ["FAIL"]


def test_over_time_running_trials_end_with_their_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(budget="1h", pruner="none")
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        epoch = {"epoch": 1, "val_dice": 0.5, "seconds": 1.0}
        assert not plan.on_epoch(training, epoch)
        monkeypatch.setattr(plan.limits, "spent", lambda: 3600.0)
        assert plan.next_training() is None
        assert plan.on_epoch(training, epoch | {"epoch": 2})
        plan.on_end(training, Outcome("pruned", {"best_value": 0.5, "epochs": 2}))
        assert plan.num_open() == 0
        table = trials_table(study, SPACE)
    assert table[["state", "reason"]].to_numpy().tolist() == [["PRUNED", OVER_TIME]]


@pytest.mark.parametrize("rung_unit", ["epochs", "seconds"])
def test_a_pruned_trial_without_one_of_the_objectives_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rung_unit: str
) -> None:
    objectives = ["monitor", "milliseconds"]
    config = make_config(
        budget="1h", pruner="none", objectives=objectives, rung_unit=rung_unit, sampler="tpe"
    )
    with open_study(tmp_path / "study.db", config) as study:
        plan = make_plan(study, config, tmp_path)
        training = plan.next_training()
        assert training is not None
        monkeypatch.setattr(plan.limits, "spent", lambda: 3600.0)
        plan.on_end(training, Outcome("pruned", {"best_value": None, "epochs": 0}))
        assert trials_table(study, SPACE)["state"].tolist() == ["PRUNED"]
        longer = override(config, {"search.budget": "2h"})
        assert make_plan(study, longer, tmp_path).next_training() is not None
