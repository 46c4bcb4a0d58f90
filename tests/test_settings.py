import dataclasses
import inspect
import re
from typing import Any

import pytest
import yaml

from busi_tune import config, config_jobs
from busi_tune.config import Config
from busi_tune.settings import (
    FIELDS,
    check_config,
    check_setting,
    differences,
    dotted,
    flatten,
    from_dict,
    nested,
    override,
    to_yaml,
    training_key,
    unknown_field,
)

PARTS = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


def test_nested_and_dotted_settings_mean_the_same() -> None:
    flat = {"model.base_width": 8, "seed": 3}
    assert dotted({"model": {"base_width": 8}, "seed": 3}) == flat
    assert dotted(nested(flat)) == flat


def test_a_space_keeps_its_dotted_names() -> None:
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-2}}
    assert dotted({"search": {"space": space}}) == {"search.space": space}


def test_override_leaves_the_original_alone() -> None:
    config = Config()
    changed = override(config, {"model.base_width": 8, "optimizer": {"lr": 0.1}})
    assert (changed.model.base_width, changed.optimizer.lr) == (8, 0.1)
    assert config == Config()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("training.epohcs", "training.epochs"),
        ("epohcs", "training.epochs"),
        ("model.arch", "model.architecture"),
        ("optimiser.lr", "optimizer.lr"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    assert f"did you mean {nearest}?" in unknown_field(name)
    with pytest.raises(ValueError, match=re.escape(f"unknown setting {name}")):
        override(Config(), {name: 1})


def test_yaml_holds_the_whole_configuration() -> None:
    config = override(Config(), {"data.classes": ["benign"], "optimizer.lr": 3e-4})
    assert from_dict(yaml.safe_load(to_yaml(config))) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.epochs": 0}, "training.epochs must be at least 1, not 0"),
        ({"training.epochs": None}, "training.epochs needs a value"),
        ({"augment.crop_scale": 0.0}, "augment.crop_scale must be above 0"),
        ({"model.dropout": 1.0}, "model.dropout must be from 0 to below 1"),
        ({"augment.vertical_flip": 1.5}, "is a probability"),
        ({"loss.bce": 0.0, "loss.dice": 0.0}, "all loss weights are 0"),
        ({"training.batch_size": 1, "resources.num_workers": 2}, "use at least 2"),
        ({"training.threshold": 1.0}, "training.threshold must be between 0 and 1"),
        (
            {"storage": "gs://bucket/runs"},
            "storage is a folder or s3://bucket/prefix, not gs://bucket",
        ),
        (
            {"optimizer.name": "lion"},
            "optimizer.name must be one of adam, adamw, nadam, rmsprop, sgd, not lion",
        ),
        ({"optimizer.lr": float("nan")}, "optimizer.lr must be above 0"),
        (
            {"training.device": "cuda", "resources.gpus_per_worker": 0.0},
            "training.device is cuda, but resources.gpus_per_worker is 0",
        ),
        (
            {"optimizer.schedule": "plateau", "data.split": "all"},
            "optimizer.schedule plateau follows the validation part",
        ),
        (
            {"training.device": "cpu", "training.sync_batchnorm": True},
            "training.sync_batchnorm works on GPUs only",
        ),
        (
            {"training.device": "cpu", "resources.gpus_per_worker": 1.0},
            "training.device is cpu, but resources.gpus_per_worker is 1",
        ),
        (
            {"resources.num_workers": 2, "resources.gpus_per_worker": 0.5},
            "the 2 workers of a training need a GPU each",
        ),
    ],
)
def test_settings_that_cannot_run_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_config(override(Config(), settings))


SECONDS = {"search.rung_unit": "seconds"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search.budget": "soon"}, "search.budget is a time such as 2h, 90m, 45s or 1h30m, not"),
        ({"search.objectives": []}, "begin with monitor, the first of none is not"),
        ({"search.objectives": ["parameters", "monitor"]}, "begin with monitor"),
        ({"search.objectives": ["monitor", "cost"]}, "some of monitor, parameters, milliseconds"),
        ({"search.objectives": ["monitor", "monitor"]}, "search.objectives name something twice"),
        ({"search.objectives": ["monitor", "parameters"]}, "need search.pruner none, not halving"),
        ({**SECONDS, "search.pruner": "median", "training.max_seconds": 99.0}, "epoch by epoch"),
        ({**SECONDS}, "search.min_seconds 30: training.max_seconds is 0"),
        ({**SECONDS, "search.pruner": "hyperband", "training.max_seconds": 30.0}, "is 30"),
        ({"search.min_seconds": 0.0}, "search.min_seconds must be above 0, not 0.0"),
        ({"search.inner_folds": 0}, "search.inner_folds must be at least 1, not 0"),
        ({"search.inner_folds": 3, "training.monitor": "val_loss"}, "set training.monitor to val"),
        ({"search.race_level": 0.0}, "search.race_level is between 0 and 1, not 0.0"),
        ({"search.race_level": 1.0}, "search.race_level is between 0 and 1, not 1.0"),
        ({"search.target": 85.0}, "search.target is a Dice from 0 to 1, not 85.0"),
        ({"search.target": -0.1}, "search.target is a Dice from 0 to 1, not -0.1"),
        ({"search.target": float("nan")}, "search.target is a Dice from 0 to 1, not nan"),
        (
            {"search.target": float("nan"), "training.monitor": "val_loss"},
            "search.target is a finite loss, not nan",
        ),
        ({"search.refit": -1}, "search.refit must be at least 0, not -1"),
        ({"search.refit_seeds": 0}, "search.refit_seeds must be at least 1, not 0"),
        ({"search.baselines": ["report"], "search.refit": 0}, "set search.refit to at least 1"),
        ({"search.trackers": ["mlflow", "mlflow"]}, "search.trackers name something twice"),
        ({"training.max_seconds": -1.0}, "training.max_seconds must be at least 0, not -1.0"),
    ],
)
def test_searches_that_cannot_be_run_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_config(override(Config(), settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"search.objectives": ["monitor", "milliseconds"], "search.pruner": "none"},
        {**SECONDS, "training.max_seconds": 31.0},
        {**SECONDS, "search.pruner": "none"},
        {"search.inner_folds": 3, "training.monitor": "val_dice_tumour"},
        {"search.refit": 0},
        {"search.target": 1.0},
        {"search.target": 1.5, "training.monitor": "val_loss"},
        {"search.budget": "1h30m"},
    ],
)
def test_searches_that_can_be_run_are_not_refused(settings: dict[str, Any]) -> None:
    check_config(override(Config(), settings))


def test_the_objectives_of_the_rules_are_those_of_the_study() -> None:
    from busi_tune.search_rules import OBJECTIVES
    from busi_tune.study.objectives import COSTS, MONITOR

    assert (MONITOR, *COSTS) == OBJECTIVES


def test_a_value_is_checked_by_itself_whatever_goes_with_it() -> None:
    check_setting("optimizer.warmup_epochs", 999.0)
    with pytest.raises(ValueError, match=r"optimizer\.lr must be above 0"):
        check_setting("optimizer.lr", 0.0)


def test_all_broken_rules_are_said_at_once() -> None:
    config = override(Config(), {"training.epochs": 0, "seed": -1})
    with pytest.raises(ValueError, match=r"(?s)training\.epochs.*seed"):
        check_config(config)


def test_differences_name_old_and_new() -> None:
    changed = override(Config(), {"seed": 1, "search.num_trials": 9})
    assert differences(Config(), changed, ignore={"search.num_trials"}) == ["seed: 0 -> 1"]


def test_of_a_changed_space_only_its_changed_entries_are_named() -> None:
    before = override(Config(), {"search.space": {"a": [1, 2], "b": [3], "c": 4}})
    after = override(Config(), {"search.space": {"a": [1, 2], "b": [5], "d": 6}})
    assert differences(before, after) == [
        "search.space, b: [3] -> [5]",
        "search.space, c: 4 -> not there",
        "search.space, d: not there -> 6",
    ]


def test_the_key_depends_on_what_decides_the_result_and_on_nothing_else() -> None:
    key = training_key(Config(), "hash", PARTS)

    def key_with(settings: dict[str, Any]) -> str:
        return training_key(override(Config(), settings), "hash", PARTS)

    for same in ({"search.num_trials": 3}, {"resources.max_concurrent": 1}, {"data.root": "x"}):
        assert key_with(same) == key
    for other in ({"seed": 1}, {"optimizer.lr": 0.1}, {"training.max_seconds": 9}):
        assert key_with(other) != key
    assert training_key(Config(), "other", PARTS) != key
    assert training_key(Config(), "hash", PARTS | {"validation": ["d"]}) != key
    assert key_with({"resources.num_workers": 2}) != key


def test_a_new_setting_at_its_default_changes_no_key() -> None:
    assert training_key(Config(), "hash", PARTS) == "b81178b583430360"


def test_every_field_has_a_docstring_for_its_help() -> None:
    source = inspect.getsource(config) + inspect.getsource(config_jobs)
    for name in FIELDS:
        field = name.rsplit(".", 1)[-1]
        assert re.search(rf'^    {field}: .*\n    """', source, re.MULTILINE) or re.search(
            rf'^    {field}: [^"]*?\n    """', source, re.MULTILINE
        ), name


def test_flatten_lists_every_section() -> None:
    sections = {name.split(".")[0] for name in flatten(Config()) if "." in name}
    assert sections == {f.name for f in dataclasses.fields(Config)} - {"storage", "seed"}
