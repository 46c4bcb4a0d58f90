import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from busi_tune import run_directory
from busi_tune.command_line import BAD_INPUT, Options, run_command
from busi_tune.config import Config
from busi_tune.jobs import dry_run
from busi_tune.jobs.disk import check_disk, remove_lost_checkpoints
from busi_tune.jobs.forecast import Part
from busi_tune.models import build_model, num_parameters
from busi_tune.search import COMMAND
from busi_tune.settings import override


def add_trial(study: optuna.Study, folder: Path, keys: list[str], value: float | None) -> None:
    trial = study.ask()
    trial.set_user_attr("keys", keys)
    for key in keys:
        path = folder / run_directory.TRAININGS / key / run_directory.BEST_CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if value is not None:
        study.tell(trial, value)


def test_leaders_and_running_trials_keep_their_checkpoints(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    config = override(Config(), {"search.refit": 2})
    settled: set[str] = set()
    values = {"a": 0.3, "b": 0.9, "c": 0.5, "d": None, "e": 0.7}
    for key, value in values.items():
        add_trial(study, tmp_path, [key], value)
        remove_lost_checkpoints(study, config, tmp_path, settled)
    left = sorted(path.parent.name for path in tmp_path.rglob(run_directory.BEST_CHECKPOINT))
    assert left == ["b", "d", "e"]
    assert settled == {"a", "c"}


def test_a_folder_that_a_leader_shares_with_a_lost_trial_stays(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    config = override(Config(), {"search.refit": 1})
    for keys, value in ((["a", "b"], 0.9), (["a"], 0.9), (["c", "b"], 0.1)):
        add_trial(study, tmp_path, keys, value)
    remove_lost_checkpoints(study, config, tmp_path, set())
    left = sorted(path.parent.name for path in tmp_path.rglob(run_directory.BEST_CHECKPOINT))
    assert left == ["a", "b"]


def test_trials_in_another_folder_are_found(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    config = override(Config(), {"storage": str(tmp_path / "shared"), "search.refit": 0})
    for key, value in (("a", 0.1), ("b", 0.2)):
        add_trial(study, tmp_path / "shared", [key], value)
    remove_lost_checkpoints(study, config, tmp_path / "run", set())
    left = sorted(path.parent.name for path in tmp_path.rglob(run_directory.BEST_CHECKPOINT))
    assert left == ["b"]


UNET_16 = 1_942_289
"""Weights of the unet of width 16, 4 bytes each."""


def disk_with(free: float) -> Any:
    return lambda path: SimpleNamespace(free=int(free))


def options_of(folder: Path, **settings: Any) -> Options:
    own = {name.replace("__", "."): value for name, value in settings.items()}
    config = override(Config(), {"resources.gpus_per_worker": 0.0, "model.base_width": 16, **own})
    return Options(config, folder / "runs" / "new", False, False, False, False)


def test_the_checkpoints_of_a_new_run_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dry_run.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(dry_run.shutil, "disk_usage", disk_with(5e9))
    options = options_of(tmp_path)
    assert num_parameters(build_model(options.config.model)) == UNET_16
    with caplog.at_level(logging.INFO):
        check_disk([Part({"unet": options.config}, 10)], options)
    # Four under way with weights and the two moments of adam, ten that leave their best weights.
    megabytes = 4 * UNET_16 * (4 * 3 + 10) / 1e6
    (record,) = caplog.records
    assert record.getMessage() == (
        f"disk: about {megabytes:.0f} MB of checkpoints alone, with 4 trainings at a time, as on "
        f"this machine; 5.0 GB free in {tmp_path}"
    )


def test_a_run_for_which_there_is_no_room_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dry_run.shutil, "disk_usage", disk_with(5e6))

    def body(options: Options) -> int:
        check_disk([Part({"unet": options.config}, 10)], options)
        return 0

    flags = [f"--run_dir={tmp_path / 'run'}", f"--storage={tmp_path / 'large'}"]
    assert run_command(COMMAND, body, flags) == BAD_INPUT
    said = capsys.readouterr().err
    assert f"more than the 5 MB that are free in {tmp_path}: make space there" in said
    assert "--storage" in said and "--resources.max_concurrent" in said


def test_a_resumed_run_has_its_checkpoints_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run.shutil, "disk_usage", disk_with(0))
    options = options_of(tmp_path)
    options.resume = True
    check_disk([Part({"unet": options.config}, 10)], options)


def test_trials_are_forecast_at_the_greatest_width_of_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run.shutil, "disk_usage", disk_with(1e9))
    one = options_of(tmp_path, resources__max_concurrent=1)
    narrow = override(one.config, {"search.space": {"model.base_width": [8, 16]}})
    wide = override(one.config, {"search.space": {"model.base_width": [8, 512]}})
    check_disk([Part({"unet": narrow}, 3, 40, 3), Part({"unet": wide}, 3)], one)
    with pytest.raises(ValueError, match=r"alone, with 1 trainings at a time, .*, need more than"):
        check_disk([Part({"unet": wide}, 3, 40, 3)], one)
