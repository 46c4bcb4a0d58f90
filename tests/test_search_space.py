import re
from typing import Any

import optuna
import pytest

from busi_tune.search_space import compile_space, sample

SPACE = {
    "model.base_width": {
        "low": 8,
        "high": 32,
        "step": 8,
        "when": {"model.architecture": ["unet"]},
    },
    "model.architecture": ["unet", "fpn"],
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "optimizer.name": {"choices": ["adam", "sgd"], "when": {"model.base_width": [8]}},
    "training.batch_size": 4,
}


def fixed(**values: Any) -> optuna.trial.FixedTrial:
    return optuna.trial.FixedTrial({name.replace("__", "."): v for name, v in values.items()})


def test_a_setting_whose_condition_fails_is_absent() -> None:
    trial = fixed(model__architecture="fpn", optimizer__lr=1e-3)
    assert sample(compile_space(SPACE), trial) == {
        "model.architecture": "fpn",
        "optimizer.lr": 1e-3,
        "training.batch_size": 4,
    }


def test_conditions_nest() -> None:
    trial = fixed(
        model__architecture="unet", model__base_width=8, optimizer__name="sgd", optimizer__lr=1e-3
    )
    assert sample(compile_space(SPACE), trial)["optimizer.name"] == "sgd"
    trial = fixed(model__architecture="unet", model__base_width=16, optimizer__lr=1e-3)
    assert "optimizer.name" not in sample(compile_space(SPACE), trial)


def test_constants_take_no_part_in_the_search() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    sample(compile_space(SPACE), trial)
    assert "training.batch_size" not in trial.params


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "search.space is empty"),
        ({"model.with": [1, 2]}, "unknown setting model.with; did you mean model."),
        ({"optimizer.lr": {"low": 0.1, "high": 0.01}}, "the range is empty"),
        ({"optimizer.lr": {"low": 0.0, "high": 0.01, "log": True}}, "must start above 0"),
        ({"optimizer.lr": {"low": 0.1}}, "needs the numbers low and high"),
        ({"optimizer.lr": {"low": 0.1, "high": 1.0, "lgo": True}}, "unknown key lgo"),
        ({"model.base_width": {"low": 1.5, "high": 3}}, "whole numbers only"),
        ({"model.architecture": []}, "at least one value"),
        ({"kfold.num_folds": [3, 5]}, "a trial cannot change this setting"),
        ({"training.monitor": ["val_loss"]}, "a trial cannot change this setting"),
        ({"model.base_width": ["wide", 8]}, "search.space, model.base_width: "),
        ({"optimizer.name": ["adma"]}, "search.space, optimizer.name: "),
        ({"model.base_width": {"low": 1, "high": 2, "when": ["a"]}}, "when maps settings"),
        ({"model.base_width": {"low": 1, "high": 2, "step": "a"}}, "step must be above 0"),
        (
            {"model.base_width": {"low": 1, "high": 2, "when": {"model.architecture": ["unet"]}}},
            "its condition names model.architecture, which the space does not sample",
        ),
        (
            {
                "model.base_width": {"low": 1, "high": 2, "when": {"model.dropout": [0.5]}},
                "model.dropout": {"choices": [0.5, 0.1], "when": {"model.base_width": [1]}},
            },
            "wait for each other",
        ),
    ],
)
def test_mistakes_are_refused_with_their_key(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_space(space)
