import datetime
import re
from typing import Any

import optuna
import pytest

from busi_tune.config import Config
from busi_tune.search_space import compile_space, image_sizes, image_ways, sample
from busi_tune.settings import FIELDS, flatten, override

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


def test_a_chain_of_conditions_is_drawn_in_its_order_however_it_is_written() -> None:
    chain = ["model.architecture", "model.encoder", "optimizer.name", "optimizer.schedule"]
    values = [["unet", "fpn"], ["resnet18", "resnet34"], ["adam", "sgd"], ["constant", "cosine"]]
    space: dict[str, Any] = {"training.batch_size": {"value": 4, "when": {chain[-1]: "cosine"}}}
    for name, choices, above in zip(chain[::-1], values[::-1], [*chain[-2::-1], ""], strict=True):
        when = {above: values[chain.index(above)][1]} if above else {}
        space[name] = {"choices": choices, "when": when}
    compiled = compile_space(space)
    assert [d.name for d in compiled] == [*chain, "training.batch_size"]
    deepest = {name: choices[1] for name, choices in zip(chain, values, strict=True)}
    assert sample(compiled, optuna.trial.FixedTrial(deepest)) == {
        **deepest,
        "training.batch_size": 4,
    }
    broken = {**deepest, "model.encoder": "resnet18"}
    drawn = sample(compiled, optuna.trial.FixedTrial(broken))
    assert drawn == {"model.architecture": "fpn", "model.encoder": "resnet18"}


def test_all_settings_that_describe_a_model_or_its_training_can_be_searched() -> None:
    sections = ("model", "loss", "optimizer", "augment", "training")
    names = {name for name in FIELDS if name.partition(".")[0] in sections}
    names = names - {"training.monitor", "training.device"} | {"data.image_size", "data.resize"}
    defaults = flatten(Config())
    compiled = compile_space({name: defaults[name] for name in names})
    assert sample(compiled, optuna.trial.FixedTrial({})) == {name: defaults[name] for name in names}
    for name in FIELDS - names:
        with pytest.raises(ValueError, match=f"{name}: a trial cannot change this setting, bec"):
            compile_space({name: ["a"]})


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"low": "1e-4", "high": "1e-2"}, (1e-4, 1e-2)),
        ({"low": 0, "high": 1}, (0.0, 1.0)),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, (0.1, 0.7)),
    ],
)
def test_bounds_get_the_type_of_their_setting(
    entry: dict[str, Any], values: tuple[float, float]
) -> None:
    (dimension,) = compile_space({"augment.contrast": entry})
    assert (dimension.low, dimension.high) == values
    assert isinstance(dimension.low, float) and dimension.is_continuous


@pytest.mark.parametrize(
    ("entry", "taken", "refused", "said"),
    [
        ([8, 16], [8, 16], [12], "one of 8, 16"),
        (8, [8], [16], "always 8"),
        ({"low": 8, "high": 32, "step": 8}, [8, 24, 32], [4, 12, 40], "from 8 to 32 in steps of 8"),
        ({"low": 8, "high": 32, "log": True}, [8, 9, 32], [7, 33], "from 8 to 32"),
    ],
)
def test_a_setting_says_what_it_can_be(
    entry: Any, taken: list[int], refused: list[int], said: str
) -> None:
    (dimension,) = compile_space({"model.base_width": entry})
    assert all(dimension.allows(value) for value in taken)
    assert not any(dimension.allows(value) for value in refused)
    assert dimension.describe() == said


LR = "optimizer.lr"
WIDTH = "model.base_width"
NAME = "model.architecture"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "search.space is empty"),
        ({"model.with": [1, 2]}, "unknown setting model.with; did you mean model."),
        ({"model": {"architecture": ["unet"]}}, "in one piece: write model.architecture"),
        ({"model": ["unet"]}, "search.space: model is a section"),
        ({5: [1, 2]}, "search.space: unknown setting 5; --help lists every setting"),
        ({LR: {"low": 0.1, "high": 0.01}}, "is not below high 0.01; exchange them"),
        ({LR: {"low": 0.1, "high": 0.1}}, f"{LR}: the range is empty, low 0.1 is not below high"),
        ({LR: {"low": 0.1, "high": 0.1}}, "high 0.1; write 0.1 alone for a constant"),
        ({"loss.bce": {"low": 0.0, "high": 0.01, "log": True}}, "must start above 0, not at 0.0"),
        ({LR: {"low": 0.1}}, "needs the numbers low and high"),
        ({LR: {"low": 0.1, "high": 1.0, "lgo": True}}, "unknown key lgo"),
        ({LR: {"low": 0.1, "high": 1.0, "log": "maybe"}}, "log must be true or false"),
        ({LR: {"low": 0.1, "high": 0.3, "log": True, "step": 0.1}}, "exclude each other"),
        ({LR: {"value": 0.1, "low": 0.3}}, "value stands alone; leave low out"),
        ({LR: {"choices": [0.1, 0.2], "log": True}}, "choices stands alone; leave log out"),
        ({LR: {"low": 0.1, "high": float("inf")}}, f"{LR}: high: inf is no text and no finite"),
        ({LR: [0.1, None]}, f"{LR}: None is no text and no finite"),
        ({LR: [0.1, -0.1]}, f"{LR} must be above 0, not -0.1"),
        ({"model.dropout": {"low": 0.0, "high": 1.0}}, "high: model.dropout must be from 0 to be"),
        ({"optimizer.name": {"low": 0, "high": 1}}, "is no number, so it has no range"),
        ({"augment.enabled": {"low": 0, "high": 1}}, "is no number, so it has no range"),
        ({WIDTH: {"low": 1.5, "high": 3}}, f"{WIDTH}: low: "),
        ({WIDTH: {"low": 8, "high": 30, "step": 8}}, "do not end at high 30; set high to 24 or 32"),
        ({WIDTH: {"low": 8, "high": 12, "step": 8}}, "do not end at high 12; set high to 16"),
        ({WIDTH: {"low": 8, "high": 12, "step": 1.5}}, f"{WIDTH}: step: "),
        ({WIDTH: {"low": 1, "high": 2, "step": "a"}}, f"{WIDTH}: step: "),
        ({WIDTH: {"low": 1, "high": 2, "step": 0}}, "step must be above 0, not 0"),
        ({WIDTH: {"choices": 8}}, "choices must be a list"),
        ({WIDTH: []}, "at least one value"),
        ({WIDTH: [8, 16, 8]}, f"{WIDTH}: 8 stands twice among the choices"),
        ({LR: [1, 1.0]}, f"{LR}: 1.0 stands twice among the choices"),
        ({WIDTH: ["wide", 8]}, "search.space, model.base_width: "),
        ({"model.encoder": [["a"], "b"]}, "search.space, model.encoder: "),
        ({"model.encoder": [datetime.date(2024, 1, 1), "b"]}, "search.space, model.encoder: "),
        ({"optimizer.name": ["adma"]}, "search.space, optimizer.name: "),
        ({"seed": [1, 2]}, "because all trials share one seed"),
        ({"data.root": ["a", "b"]}, "of data only data.image_size and data.resize are searched"),
        ({"data.image_size": [128, 4]}, "data.image_size must be at least 8, not 4"),
    ],
)
def test_mistakes_are_refused_with_their_key(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_space(space)


def when(**conditions: Any) -> dict[str, Any]:
    return {"choices": [0.1, 0.2], "when": {n.replace("__", "."): v for n, v in conditions.items()}}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({LR: {"low": 1, "high": 2, "when": ["a"]}}, "when maps settings to values"),
        ({LR: when(model__base_widht=[8])}, "when: unknown setting model.base_widht; did you mean"),
        ({LR: when(model__base_width=[])}, "when: model.base_width needs at least one value"),
        (
            {LR: when(model__architecture=["unet"])},
            f"{LR}: its condition names {NAME}, which the space does not sample; add it or drop",
        ),
        (
            {LR: when(model__architecture=["unet", "ftn"]), NAME: ["unet", "fpn"]},
            f"{LR}: its condition waits for {NAME} to be ftn, but that is one of unet, fpn",
        ),
        (
            {LR: when(model__base_width=12), WIDTH: {"low": 8, "high": 32, "step": 8}},
            "to be 12, but that is from 8 to 32 in steps of 8",
        ),
        (
            {LR: when(model__architecture=["unet"]), NAME: "fpn"},
            f"to be unet, but that is always fpn; change the condition, or what {NAME} can be",
        ),
        (
            {LR: when(loss__bce=0.5), "loss.bce": {"low": 0.1, "high": 1.0}},
            "its condition names loss.bce, a range of real numbers",
        ),
        ({LR: when(optimizer__lr=0.1)}, f"in a circle, {LR} -> {LR}:"),
        (
            {
                "augment.contrast": when(model__dropout=0.1),
                LR: when(loss__bce=0.1),
                "loss.bce": when(model__dropout=0.1),
                "model.dropout": when(optimizer__lr=0.1),
            },
            f"in a circle, model.dropout -> {LR} -> loss.bce -> model.dropout:",
        ),
    ],
)
def test_conditions_that_cannot_be_decided_are_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_space(space)


NETWORKS = {
    NAME: ["unet", "fpn", "linknet"],
    WIDTH: {"choices": [8, 16], "when": {NAME: "unet"}},
    "model.encoder": {"choices": ["resnet18", "resnet34"], "when": {NAME: ["fpn", "linknet"]}},
    "optimizer.name": {"choices": ["adam", "sgd"], "when": {"model.encoder": "resnet18"}},
}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            when(optimizer__name="sgd", model__architecture=["unet"]),
            f"{LR} is never reached: {NAME} would have to be unet (asked by {LR}) and fpn or "
            "linknet (asked by model.encoder) at once",
        ),
        (
            when(optimizer__name="sgd", model__encoder="resnet34"),
            f"model.encoder would have to be resnet34 (asked by {LR}) and resnet18 "
            "(asked by optimizer.name)",
        ),
        (
            when(optimizer__name="sgd", model__base_width=8),
            f"{NAME} would have to be fpn or linknet (asked by model.encoder) and unet (asked by "
            f"{WIDTH})",
        ),
    ],
)
def test_a_branch_that_is_never_reached_is_refused_with_both_conditions(
    entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_space({**NETWORKS, LR: entry})


def test_a_branch_is_unreachable_where_conditions_exclude_each_other_three_at_a_time() -> None:
    space = {
        NAME: ["unet", "fpn", "linknet"],
        "loss.bce": when(model__architecture=["unet", "fpn"]),
        "loss.dice": when(model__architecture=["fpn", "linknet"]),
        "loss.batch_dice": when(model__architecture=["unet", "linknet"]),
    }
    pair = when(loss__bce=0.1, loss__dice=0.1)
    compile_space({**space, LR: pair})
    with pytest.raises(ValueError, match=f"{LR} is never reached"):
        compile_space({**space, LR: {**pair, "when": {**pair["when"], "loss.batch_dice": 0.1}}})


@pytest.mark.parametrize(
    ("entry", "sizes"),
    [
        (None, [96]),
        ([128, 64], [96, 64, 128]),
        ([96, 128], [96, 128]),
        (64, [96, 64]),
        ({"low": 64, "high": 192, "step": 64}, [96, 64, 128, 192]),
    ],
)
def test_images_are_needed_at_every_size_of_the_space(entry: Any, sizes: list[int]) -> None:
    space = {"data.image_size": entry} if entry else {"optimizer.lr": [0.1, 0.2]}
    config = override(Config(), {"data.image_size": 96, "search.space": space})
    assert image_sizes(config) == sizes


@pytest.mark.parametrize("entry", ["stretch", ["stretch", "letterbox"]])
def test_images_are_needed_in_every_way_of_the_space(entry: Any) -> None:
    config = override(Config(), {"data.resize": "letterbox", "search.space": {LR: [0.1, 0.2]}})
    assert image_ways(config) == ["letterbox"]
    config = override(config, {"search.space": {"data.resize": entry}})
    assert image_ways(config) == ["letterbox", "stretch"]


def test_too_many_sizes_are_refused() -> None:
    space = {"data.image_size": {"low": 64, "high": 256}}
    with pytest.raises(ValueError, match="at each of 193 sizes; list at most 8 as choices"):
        image_sizes(override(Config(), {"search.space": space}))
