import logging
from pathlib import Path
from typing import Any

import pytest

from busi_tune.command_line import BAD_INPUT, Options
from busi_tune.config import Config
from busi_tune.jobs.space import check_space, read_space
from busi_tune.search import main
from busi_tune.search_space import compile_space
from busi_tune.settings import override


def warnings_of(caplog: pytest.LogCaptureFixture, **search: Any) -> list[str]:
    own = {f"search.{name}": value for name, value in search.items()}
    space = {"search.space": {"model.architecture": "report_cnn"}}
    length = {"training.epochs": 3, "training.max_seconds": 60.0}
    config = override(Config(), {**length, **space, **own})
    with caplog.at_level(logging.WARNING):
        read_space(Options(config, Path("run"), False, False, False, False))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{optimizer.lr: {low: 0.1, high: 0.01}}", "search.space, optimizer.lr: the range is emp"),
        ("{optimizer.rate: [0.1, 0.01]}", "search.space: unknown setting optimizer.rate; did you"),
        ("5", "search.space maps settings to what they can be, not 5: write lines such as `opt"),
    ],
)
def test_a_mistake_in_a_space_is_refused_with_its_file_before_anything_starts(
    space: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run_dir = tmp_path / "c.yaml", tmp_path / "run"
    file.write_text(f"search: {{space: {space}}}\n")
    assert main([f"--config={file}", f"--run_dir={run_dir}"]) == BAD_INPUT
    assert f"busi_tune search: error: {file}: {said}" in capsys.readouterr().err
    assert not run_dir.exists()


def test_trials_are_not_ranked_by_losses_of_their_own() -> None:
    space = {"model.architecture": "report_cnn", "loss.bce": {"low": 0.1, "high": 2.0}}
    config = override(Config(), {"search.space": space, "training.monitor": "val_loss"})
    with pytest.raises(ValueError, match=r"search.space has loss.bce, .*a loss of its own: set tr"):
        read_space(Options(config, Path("run"), False, False, False, False))


@pytest.mark.parametrize("pruner", ["halving", "hyperband", "median"])
def test_a_pruner_that_will_stop_no_trial_is_said_in_one_line(
    pruner: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(caplog, pruner=pruner, min_epochs=3) == [
        f"search.pruner {pruner} will stop no trial: search.min_epochs 3 is not below "
        "training.epochs 3"
    ]


@pytest.mark.parametrize(
    "search",
    [
        {"min_epochs": 2},
        {"pruner": "none"},
        {"rung_unit": "seconds"},
        {"space": {"model.architecture": "report_cnn", "training.epochs": [3, 9]}},
    ],
)
def test_other_pruners_are_not_warned_of(
    search: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(caplog, **search) == []


def test_a_space_is_refused_where_a_decoder_cannot_have_an_option() -> None:
    space = {
        "model.architecture": ["unet", "report_cnn"],
        "model.base_width": 4,
        "model.decoder_dropout": {"low": 0.1, "high": 0.5},
    }
    with pytest.raises(ValueError, match=r"does not go with model.architecture report_cnn, only"):
        check_space(compile_space(space), Config())


def test_the_one_combination_of_many_that_cannot_be_trained_is_found() -> None:
    probabilities = [number / 1000 for number in range(800)]
    space = {
        "model.architecture": "report_cnn",
        "model.dropout": probabilities,
        "model.decoder_attention": {
            "choices": ["none", "scse"],
            "when": {"model.dropout": probabilities[-1]},
        },
    }
    with pytest.raises(ValueError, match=r"model\.decoder_attention scse does not go with"):
        check_space(compile_space(space), Config())


def test_of_too_many_networks_some_of_every_architecture_are_checked_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("busi_tune.jobs.space.MOST_NETWORKS", 12)
    monkeypatch.setattr("busi_tune.jobs.space.LEAST_SAMPLES", 0)
    networks = ["unet", "attention_unet", "report_cnn"]
    widths = {"choices": list(range(1, 13)), "when": {"model.architecture": networks[:2]}}
    space = compile_space({"model.architecture": networks, "model.base_width": widths})
    with caplog.at_level(logging.INFO):
        examples = check_space(space, Config())
    assert set(examples) == set(networks)
    said = "search.space allows more than 12 networks: as many are checked, drawn at random"
    assert said in caplog.messages
