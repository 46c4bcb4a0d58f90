"""The final model: every image trains, the last epoch is kept, nothing is scored."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from busi_tune import predict, run_directory, train
from busi_tune.command_line import DONE
from busi_tune.config import Config
from busi_tune.data.cache import load_images
from busi_tune.data.splits import Split, load_splits, save_splits, take_all
from busi_tune.flags import load_settings
from busi_tune.jobs.train import check_split
from busi_tune.run_directory import read_json
from busi_tune.settings import override, to_yaml
from busi_tune.training.checkpoint import load_checkpoint
from busi_tune.training.loop import fit
from busi_tune.training.mend import mend_training
from tests.prediction.conftest import write_set
from tests.results.conftest import blank
from tests.training.small_training import (
    CPU,
    SPLIT,
    Recorder,
    make_config,
    make_images,
    without_clock,
)

pytestmark = pytest.mark.usefixtures("networks", "one_thread")

ALL = take_all(20)
FINAL = {"data__split": "all", "training__patience": 1}


def test_the_last_epoch_is_kept_and_nothing_is_evaluated(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    result = fit(make_config(**FINAL), make_images(), ALL, tmp_path, recorder)
    assert (result.status, result.epochs, result.best_epoch) == ("finished", 4, 4)
    assert result.best_value is result.converged is result.tuned_threshold is None
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert "train_dice" in epochs
    assert not [column for column in epochs if column.startswith("val_")]
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"best.ckpt", "epochs.csv", "result.json", "lock"}
    kept = load_checkpoint(tmp_path / "best.ckpt", CPU)
    assert kept["epoch"] == 4
    last = recorder.states[-1]["learner"]["average"]
    assert all(torch.equal(kept["model"][name], last[name]) for name in last)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_weights_that_the_last_step_ruined_are_not_kept(tmp_path: Path, decay: float) -> None:
    # A step as large as this is infinite; the only batch of the only epoch still had a good loss.
    config = make_config(
        **FINAL, optimizer__name="sgd", optimizer__lr=1e38, optimizer__schedule="constant",
        optimizer__warmup_epochs=0, training__batch_size=20, training__clip_norm=0,
        training__epochs=1, training__ema_decay=decay, model__architecture="plain",
        loss__bce=1e3,
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match="weights after epoch 1 are not finite; lower"):
        fit(config, make_images(), ALL, tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_interrupted_training_on_all_images_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config, images = make_config(**FINAL), make_images()
    whole = fit(config, images, ALL, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(config, images, ALL, tmp_path / "broken", Recorder(tmp_path / "broken", break_at=2))
    resumed = fit(config, images, ALL, tmp_path / "broken")
    assert without_clock(dataclasses.asdict(whole)) == without_clock(dataclasses.asdict(resumed))
    first, second = (
        load_checkpoint(tmp_path / name / "best.ckpt", CPU)["model"] for name in ("whole", "broken")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_training_on_all_images_is_whole_and_taken_as_it_is(tmp_path: Path) -> None:
    result = fit(make_config(**FINAL), make_images(), ALL, tmp_path)
    mend_training(tmp_path)
    assert not list(tmp_path.glob("*.damaged*"))
    assert fit(make_config(**FINAL), make_images(), ALL, tmp_path) == result
    (tmp_path / "epochs.csv").unlink()
    mend_training(tmp_path)
    assert list(tmp_path.glob("result.json.damaged"))


def test_other_splits_still_need_a_validation_part(tmp_path: Path) -> None:
    split = Split(SPLIT.train, SPLIT.validation[:0], SPLIT.test)
    with pytest.raises(ValueError, match="the validation part of the split is empty"):
        fit(make_config(), make_images(), split, tmp_path)


def test_a_split_without_validation_and_test_survives_its_manifest(tmp_path: Path) -> None:
    images = make_images()
    save_splits(tmp_path / "splits.json", {"all": ALL}, images)
    read = load_splits(tmp_path / "splits.json", images)["all"]
    assert read.train.tolist() == list(range(20))
    assert not len(images.masks[read.validation]) + len(images.masks[read.test])
    assert read.test.dtype == np.int64


def test_a_rate_that_follows_the_validation_part_is_refused() -> None:
    settings = {"data.split": "all", "optimizer.schedule": "plateau"}
    with pytest.raises(ValueError, match="plateau follows"):
        check_split(override(Config(), settings))
    check_split(override(Config(), {"optimizer.schedule": "plateau"}))


def test_the_command_trains_on_every_image_and_says_that_nothing_is_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "run"
    settings = ["--data.phantom_images=40", "--data.image_size=16", "--model.base_width=2"]
    settings += ["--training.epochs=2", "--training.patience=1", "--data.split=all"]
    with caplog.at_level("INFO", logger="busi_tune"):
        assert train.main([*settings, f"--run_dir={run_dir}"]) == DONE
    assert "training.patience has no effect" in caplog.text
    assert "none was tested" in caplog.text
    config = override(Config(), load_settings(run_dir / run_directory.CONFIG))
    parts = load_splits(run_dir / run_directory.SPLITS, load_images(config.data))["all"]
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (40, 0, 0)
    folds = pd.read_csv(run_dir / run_directory.FOLDS)
    assert folds[["status", "epochs", "num_test"]].to_numpy().tolist() == [["finished", 2, 0]]
    protocol = read_json(run_dir / run_directory.PROTOCOL)
    assert protocol["folds"]["kind"] == "all"
    assert (run_dir / "figures" / "curves-unet.png").exists()
    written = (run_dir / run_directory.FOLDS).read_bytes()
    assert train.main(["--resume", str(run_dir)]) == DONE
    assert (run_dir / run_directory.FOLDS).read_bytes() == written


def test_the_configuration_of_a_search_becomes_a_final_model_that_predicts_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank(monkeypatch)
    root, run_dir = write_set(tmp_path / "busi"), tmp_path / "final"
    settings = {"data.image_size": 16, "data.groups": "none", "data.chosen_on": ["benign (0)"]}
    settings |= {"model.base_width": 2, "training.epochs": 1, "data.split": "holdout"}
    (tmp_path / "best.yaml").write_text(to_yaml(override(Config(), settings)))
    flags = [f"--config={tmp_path / 'best.yaml'}", f"--data.root={root}", "--data.split=all"]
    assert train.main([*flags, f"--run_dir={run_dir}"]) == DONE
    for name, more in (("model", ["--export=safetensors"]), ("out", [f"--images={root}"])):
        assert predict.main([f"--run={run_dir}", f"--out={tmp_path / name}", *more]) == DONE
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 12
    card = " ".join((tmp_path / "model" / "MODEL_CARD.md").read_text().split())
    assert "12 images (4 benign, 4 malignant, 4 normal)" in card
    flags = [f"--run={tmp_path / 'model'}", f"--images={root}", f"--out={tmp_path / 'again'}"]
    assert predict.main(flags) == DONE
    kept, exported = (tmp_path / name / "probabilities" for name in ("out", "again"))
    for path in kept.iterdir():
        assert path.read_bytes() == (exported / path.name).read_bytes()
