"""The script that scores the trainings of an earlier version with today's code."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.splits import save_splits
from busi_tune.jobs import common
from busi_tune.jobs.kfold import make_all_folds, place_folds
from busi_tune.results.gather import gather_run
from busi_tune.settings import override, to_yaml
from busi_tune.training.checkpoint import load_checkpoint, save_checkpoint
from busi_tune.training.loop import fit
from tests.training.small_training import make_images

ROOT = Path(__file__).parents[1]
OLD_COLUMNS = 19  # of images.csv before there were HD95 and what follows it


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rescore", ROOT / "experiments" / "rescore.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The same bits on every machine and less noise beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-validation of a tiny network on tiny images."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    config = override(
        Config(),
        {"data.image_size": 16, "kfold.num_folds": 2, "model.base_width": 2,
         "training.epochs": 1, "training.device": "cpu"},
    )  # fmt: skip
    images = make_images()
    splits = make_all_folds(images, config)
    run_directory.write_atomic(run_dir / "config.yaml", to_yaml(config))
    run_directory.write_json(run_dir / "environment.json", {"job": "kfold"})
    save_splits(run_dir / "splits.json", splits, images, config.seed)
    trainings = place_folds({"unet": config}, splits, images, run_dir)
    for training in trainings:
        fit(training.config, images, splits[training.split], training.folder)
    gather_run(run_dir, trainings)
    return run_dir


@pytest.fixture
def old_run(
    script: ModuleType, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The run as a version without the newer columns left it; tables and figures are not drawn."""
    run_dir = tmp_path / "old"
    shutil.copytree(finished, run_dir)
    for name in ("thresholds.csv", "logits.csv"):
        for path in run_dir.rglob(name):
            path.unlink()
    for path in run_dir.glob("trainings/*/images.csv"):
        pd.read_csv(path).iloc[:, :OLD_COLUMNS].to_csv(path, index=False)
    for path in run_dir.glob("trainings/*/result.json"):
        content = json.loads(path.read_text())
        del content["tuned_threshold"], content["tuned_component_px"]
        path.write_text(json.dumps(content))
    for path in run_dir.glob("predictions/*/*.png"):
        path.write_bytes(b"of an earlier version")
    monkeypatch.setattr(script, "load_images", lambda data: make_images())
    monkeypatch.setattr(common, "write_tables_and_figures", lambda *_: None)
    return run_dir


def contents(run_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in run_dir.rglob("*")
        if path.suffix in (".csv", ".png", ".ckpt")
    }


def test_an_old_run_becomes_what_todays_version_leaves(
    script: ModuleType, finished: Path, old_run: Path
) -> None:
    assert script.main([str(old_run)]) == 0
    assert contents(old_run) == contents(finished)
    results = [
        {p.parent.name: json.loads(p.read_text()) for p in run.glob("trainings/*/result.json")}
        for run in (old_run, finished)
    ]
    assert results[0] == results[1]


def test_a_training_without_a_result_is_left_as_it_is(script: ModuleType, old_run: Path) -> None:
    left, rescored = sorted((old_run / "trainings").iterdir())
    (left / "result.json").unlink()
    before = (left / "images.csv").read_bytes()
    assert script.main([str(old_run)]) == 1
    assert (left / "images.csv").read_bytes() == before
    assert "hd95" in (rescored / "images.csv").read_text()
    assert pd.read_csv(old_run / "folds.csv")["key"].tolist() == [rescored.name]


def test_a_checkpoint_of_another_training_is_refused(
    script: ModuleType, old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted((old_run / "trainings").iterdir())
    before = contents(old_run)
    result = json.loads((second / "result.json").read_text())
    (second / "result.json").write_text(json.dumps(result | {"best_epoch": 7}))
    assert script.main([str(old_run)]) == 2
    assert f"epoch 1 of training {second.name}, not epoch 7" in capsys.readouterr().err
    assert contents(old_run) == before
    best = load_checkpoint(first / "best.ckpt", torch.device("cpu"))
    best["config"]["seed"] = 9
    save_checkpoint(first / "best.ckpt", best)
    (second / "result.json").write_text(json.dumps(result))
    assert script.main([str(old_run)]) == 2
    assert f"not epoch 1 of {first.name}: restore the checkpoint" in capsys.readouterr().err


def test_other_data_is_refused(
    script: ModuleType, old_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(old_run)
    other = replace(make_images(), data_hash="other")
    monkeypatch.setattr(script, "load_images", lambda data: other)
    with pytest.raises(ValueError, match="made for other data"):
        script.rescore(old_run)
    assert contents(old_run) == before


def test_other_settings_are_refused(script: ModuleType, old_run: Path) -> None:
    before = contents(old_run)
    config = script.read_config(old_run)
    (old_run / "config.yaml").write_text(to_yaml(override(config, {"seed": 5})))
    with pytest.raises(ValueError, match="no finished training"):
        script.rescore(old_run)
    assert contents(old_run) == before


def test_another_job_is_refused(script: ModuleType, old_run: Path, tmp_path: Path) -> None:
    (old_run / "environment.json").write_text('{"job": "search"}')
    with pytest.raises(ValueError, match="must be a cross-validation without a nested search"):
        script.rescore(old_run)
    with pytest.raises(ValueError, match="no run directory"):
        script.rescore(tmp_path)
