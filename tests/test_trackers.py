import contextlib
import errno
import importlib.util
import logging
import math
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from busi_tune import trackers
from busi_tune.config import Config
from busi_tune.plan import Outcome, Training
from busi_tune.settings import override
from busi_tune.trackers import (
    Expendable,
    Observers,
    check_trackers,
    open_trackers,
    searched_settings,
)

SPACE = {
    "model.architecture": ["unet", "report_cnn"],
    "model.dropout": {"low": 0.0, "high": 0.5, "when": {"model.architecture": ["report_cnn"]}},
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
}
CONFIG = override(Config(), {"search.space": SPACE, "search.trackers": ["tensorboard", "mlflow"]})
FINISHED = Outcome("finished", {"best_value": 0.75, "best_epoch": 2, "epochs": 3, "seconds": 6.0})
PRUNED = Outcome("pruned", {"best_value": 0.25, "best_epoch": 1, "epochs": 1, "seconds": 2.0})
FAILED = Outcome("failed", {}, "loss is not finite in epoch 1")

# What MLflow's own database layer says of the newest SQLAlchemy.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated::mlflow"
)


LOGGER = logging.getLogger("busi_tune.trackers")


def make_training(number: int) -> Training:
    config = override(CONFIG, {"optimizer.lr": 0.001 * (number + 1)})
    return Training(f"trial {number}", {"trial": number}, config, "search", Path(f"key{number}"))


def epoch(number: int) -> dict[str, Any]:
    """An epoch's row as Tune hands it over, without tumours in the validation part."""
    row = {"epoch": number, "seconds": 2.0 * number, "val_dice": number / 4, "val_loss": 1.0}
    notes = {"trial_id": "abc", "checkpoint_dir_name": None, "done": False, "config": {"a": 1}}
    return {**row, "val_dice_tumour": math.nan, **notes}


def follow(run_dir: Path, epochs: Mapping[int, list[int]], ends: Mapping[int, Outcome]) -> None:
    """Follow one start of a search: the epochs of each trial, and the ends of some."""
    with open_trackers(CONFIG, run_dir) as opened:
        together = Observers(opened)
        for number, heard in epochs.items():
            together.on_start(make_training(number))
            for each in heard:
                together.on_epoch(make_training(number), epoch(each))
            if number in ends:
                together.on_end(make_training(number), ends[number])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was interrupted in its first trial, and resumed."""
    folder = tmp_path_factory.mktemp("run")
    follow(folder, {0: [1, 2]}, {})
    follow(folder, {0: [2, 3], 1: [1], 2: []}, {0: FINISHED, 1: PRUNED, 2: FAILED})
    return folder


def read_mlflow(run_dir: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run_dir}/trackers/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == run_dir.name)
    runs = client.search_runs([experiment.experiment_id])
    history = {
        run.info.run_name: client.get_metric_history(run.info.run_id, "val_dice") for run in runs
    }
    return {run.info.run_name: (run, history[run.info.run_name]) for run in runs}


def test_mlflow_has_a_run_per_trial_with_its_settings_epochs_state_and_value(run_dir: Path) -> None:
    runs = read_mlflow(run_dir)
    assert sorted(runs) == ["trial 0", "trial 1", "trial 2"]
    first, history = runs["trial 0"]
    assert first.data.params == {"model.architecture": "unet", "optimizer.lr": "0.001"}
    assert [(each.step, each.value) for each in history] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert first.data.metrics["final/best_value"] == 0.75
    measured = {"seconds", "val_dice", "val_loss", "val_dice_tumour"}
    assert {name for name in first.data.metrics if "/" not in name} == measured
    states = [(run.info.status, run.data.tags["state"]) for _, (run, _) in sorted(runs.items())]
    assert states == [("FINISHED", "finished"), ("KILLED", "pruned"), ("FAILED", "failed")]
    assert runs["trial 2"][0].data.tags["reason"] == FAILED.reason


def test_tensorboard_has_a_run_per_trial_with_its_settings_epochs_state_and_value(
    run_dir: Path,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    folder = run_dir / "trackers" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["trial-0", "trial-1", "trial-2"]
    events = EventAccumulator(str(folder / "trial-0")).Reload()
    scalars = [(each.step, each.value) for each in events.Scalars("val_dice")]
    assert scalars == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert [each.value for each in events.Scalars("final/best_value")] == [0.75]
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert started["model.architecture"].string_value == "unet"
    assert started["optimizer.lr"].number_value == 0.001
    assert started["state"].string_value == "finished"


class Failing:
    """A tracker whose database is locked."""

    def __init__(self, error: Exception) -> None:
        self.calls = 0
        self._error = error

    def on_start(self, training: Training) -> None:
        self.calls += 1

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        self.calls += 1
        raise self._error

    def on_end(self, training: Training, outcome: Outcome) -> None:
        self.calls += 1

    def close(self) -> None:
        self.calls += 1
        raise self._error


def test_a_tracker_that_fails_is_left_out_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = Failing(RuntimeError("database is locked"))
    tracker = Expendable("mlflow", lambda: failing)
    tracker.on_start(make_training(0))
    for number in (1, 2):
        tracker.on_epoch(make_training(0), epoch(number))
    tracker.on_end(make_training(0), FINISHED)
    assert failing.calls == 2
    (record,) = caplog.records
    assert "mlflow failed" in record.message and "database is locked" in record.message


def test_a_tracker_that_cannot_be_opened_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "trackers"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('of another version')")
    follow(tmp_path, {0: [1]}, {0: FINISHED})
    (said,) = (r.message for r in caplog.records if r.name == LOGGER.name)
    assert "mlflow failed, the search goes on without it" in said
    assert list(tmp_path.rglob("events.out.tfevents.*")), "the other tracker goes on"


def test_a_tracker_that_cannot_be_closed_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing(RuntimeError("database is locked"))
    monkeypatch.setitem(trackers._TRACKERS, "mlflow", lambda folder, config: failing)
    with open_trackers(CONFIG, tmp_path):
        pass
    assert failing.calls == 1
    assert "mlflow failed" in caplog.text


def test_a_disk_that_a_tracker_finds_full_ends_the_run() -> None:
    failing = Failing(OSError(errno.ENOSPC, "No space left on device"))
    tracker = Expendable("mlflow", lambda: failing)
    with pytest.raises(OSError, match="No space left"):
        tracker.on_epoch(make_training(0), epoch(1))


def test_settings_are_those_drawn_and_in_use() -> None:
    report = override(CONFIG, {"model.architecture": "report_cnn", "model.dropout": 0.25})
    assert "model.dropout" not in searched_settings(CONFIG, CONFIG)
    assert searched_settings(report, CONFIG)["model.dropout"] == 0.25


@pytest.mark.parametrize(("name", "package"), [("tensorboard",) * 2, ("mlflow", "mlflow-skinny")])
def test_a_missing_library_is_refused_with_the_line_that_installs_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"{name} is not installed.*pip install {package}"):
        check_trackers([name])


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ValueError, match="some of tensorboard, mlflow, not wandb"):
        check_trackers(["wandb"])


def test_without_trackers_nothing_is_written_or_loaded(tmp_path: Path) -> None:
    before = set(sys.modules)
    with open_trackers(Config(), tmp_path) as opened:
        assert opened == []
    assert not list(tmp_path.iterdir())
    assert not {"mlflow", "tensorboard"} & (set(sys.modules) - before)


def test_the_projects_own_log_still_speaks_beside_theirs(run_dir: Path) -> None:
    assert not LOGGER.disabled
