from pathlib import Path
from typing import Any

import pytest

from busi_tune import run_directory
from busi_tune.command_line import BAD_INPUT, Command, parse, run_command
from busi_tune.config import Config
from busi_tune.jobs.nested import check_search
from busi_tune.kfold_models import NESTED, resolve_models, resolve_search
from busi_tune.settings import override, to_yaml

COMMAND = Command("kfold", "Compare models.", compares_models=True)
SPACE = "search: {num_trials: 3, space: {optimizer.lr: [0.01, 0.1]}}\n"
SETTINGS = {"search.num_trials": 3, "search.space": {"optimizer.lr": [0.01, 0.1]}}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def nested(**more: Any) -> Config:
    return override(Config(), {"kfold.search": SETTINGS | more})


def test_the_content_of_the_search_file_becomes_the_setting(tmp_path: Path) -> None:
    file = write(tmp_path / "search.yaml", SPACE)
    config = parse(COMMAND, [f"--kfold.search={file}"]).config
    assert config.kfold.search == SETTINGS
    stored = write(tmp_path / "config.yaml", to_yaml(config))
    file.unlink()
    assert parse(COMMAND, [f"--config={stored}"]).config == config


def test_a_search_file_lies_relative_to_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "configs" / "search.yaml", SPACE)
    named = write(tmp_path / "configs" / "kfold.yaml", "kfold: {search: search.yaml}\n")
    monkeypatch.chdir(tmp_path)
    assert parse(COMMAND, [f"--config={named}"]).config.kfold.search == SETTINGS
    assert parse(COMMAND, ["--kfold.search", "configs/search.yaml"]).config.kfold.search == SETTINGS
    with pytest.raises(ValueError, match=r"cannot read settings from search\.yaml"):
        parse(COMMAND, [f"--config={named}", "--kfold.search=search.yaml"])


def test_a_flag_goes_over_the_search_file(tmp_path: Path) -> None:
    file = write(tmp_path / "search.yaml", SPACE + "training: {epochs: 60, batch_size: 4}\n")
    config = parse(COMMAND, [f"--kfold.search={file}", "--training.epochs=5"]).config
    resolved = resolve_search(config)
    assert resolved is not None
    assert (resolved.training.epochs, resolved.training.batch_size) == (5, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epohcs: 7}\n", "did you mean training.epochs"),
        ("training: {epochs: many}\n", "training.epochs"),
        ("training: {epochs: 0}\n", "training.epochs must be at least 1"),
        ("search: {space: {optimizer.rl: [1]}}\n", "search.space: unknown setting optimizer.rl"),
        ("search: {space: {optimizer.lr: {low: 2, high: 1}}}\n", "search.space, optimizer.lr"),
        ("training: {epochs: 7}\n", "search.space is missing"),
        ("search: {space: {training.threshold: [0.4, 0.5]}}\n", "training.threshold"),
        (SPACE.replace("3,", "3, budget: 2h,", 1), "search.budget is of a search alone"),
        (SPACE.replace("3,", "3, inner_folds: 3,", 1), "search.inner_folds is of a search alone"),
        (f"training: {{monitor: val_loss}}\n{SPACE}", "training.monitor is val_loss"),
        (f"data: {{image_size: 512}}\n{SPACE}", "images of 512 pixels, the run has 64"),
        (f"data: {{resize: letterbox}}\n{SPACE}", "data.resize letterbox, the run has stretch"),
    ],
)
def test_a_search_file_that_cannot_run_is_refused_with_file_and_setting(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "search.yaml", text)
    assert run_command(COMMAND, lambda options: 0, [f"--kfold.search={file}"]) == BAD_INPUT
    said = capsys.readouterr().err
    assert str(file) in said and message in said


def test_a_space_with_samples_that_cannot_train_is_refused() -> None:
    space = {"optimizer.warmup_epochs": [0, 99]}
    config = nested(**{"search.space": space})
    with pytest.raises(ValueError, match=r"kfold\.search: search\.space allows .*warmup_epochs"):
        check_search(config)


def test_only_model_training_and_search_settings_of_the_file_count() -> None:
    config = nested(**{"seed": 9, "kfold.num_folds": 2, "loss.bce": 0.5})
    resolved = resolve_search(config)
    assert resolved is not None
    assert (resolved.seed, resolved.kfold.num_folds, resolved.loss.bce) == (0, 5, 0.5)
    assert resolved.search.num_trials == 3


def test_a_search_runs_alone_or_beside_models() -> None:
    assert list(resolve_models(Config())) == ["unet"]
    assert resolve_models(nested()) == {}
    beside = override(nested(), {"kfold.models": {"small": {"model.base_width": 8}}})
    assert list(resolve_models(beside)) == ["small"]
    taken = override(nested(), {"kfold.models": {NESTED: {}}})
    with pytest.raises(ValueError, match="rename it"):
        resolve_models(taken)


def test_a_nested_search_does_not_grow_on_resume(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write(folder / run_directory.CONFIG, to_yaml(nested()))
    write(folder / run_directory.ENVIRONMENT, '{"job": "kfold"}')
    assert parse(COMMAND, [f"--resume={folder}"]).config == nested()
    with pytest.raises(ValueError, match=r"search\.num_trials: 40 -> 50"):
        parse(COMMAND, [f"--resume={folder}", "--search.num_trials=50"])


@pytest.mark.parametrize(
    ("sizes", "flags", "expected"),
    [
        ([96, None], [], 96),
        ([96, 96], ["--config=run.yaml"], 48),
        ([96, None], ["--data.image_size=32"], 32),
        ([96, 64], [], 256),
    ],
)
def test_models_are_compared_at_their_size_where_nothing_else_names_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int | None],
    flags: list[str],
    expected: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run.yaml", "data: {image_size: 48}\n")
    files = [
        write(tmp_path / f"{n}.yaml", f"data: {{image_size: {size}}}" if size else "seed: 0")
        for n, size in enumerate(sizes)
    ]
    models = ["--models", *map(str, files)]
    config = parse(COMMAND, ["--data.root=BUSI", *flags, *models]).config
    assert config.data.image_size == expected
