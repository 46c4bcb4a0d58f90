import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from busi_tune.data.splits import Split
from busi_tune.evaluation.operating_point import OperatingPoint, counts_at
from busi_tune.run_directory import locked
from busi_tune.training import loop
from busi_tune.training.checkpoint import load_checkpoint
from busi_tune.training.epoch import train_epoch
from busi_tune.training.loop import fit
from busi_tune.training.result import read_result
from tests.training.small_training import (
    CPU,
    SPLIT,
    Recorder,
    assert_same_weights,
    best_weights,
    make_config,
    make_images,
    without_clock,
)

pytestmark = pytest.mark.usefixtures("networks", "one_thread")

METRICS = ["loss", "dice", "iou", "pixel_f1", "precision", "recall", "specificity"]
EPOCHS_COLUMNS = ["epoch", "lr", "seconds", "images_per_second"]
EPOCHS_COLUMNS += [f"{part}_{metric}" for part in ("train", "val") for metric in METRICS]
EPOCHS_COLUMNS += ["val_dice_tumour"]


def test_a_finished_training_leaves_its_files_and_no_others(tmp_path: Path) -> None:
    result = fit(make_config(), make_images(), SPLIT, tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    maps = {f"predictions/image {index}.png" for index in SPLIT.test}
    tables = {"epochs.csv", "images.csv", "thresholds.csv", "logits.csv"}
    assert files == {"best.ckpt", "result.json", "lock", *tables, *maps}
    assert json.loads((tmp_path / "result.json").read_text()) == dataclasses.asdict(result)
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert list(epochs.columns) == EPOCHS_COLUMNS
    assert list(epochs["epoch"]) == [1, 2, 3, 4]
    assert epochs["seconds"].is_monotonic_increasing
    assert result.status == "finished"
    assert result.best_value == epochs["val_dice"].max()
    assert result.best_epoch == epochs["val_dice"].argmax() + 1
    assert load_checkpoint(tmp_path / "best.ckpt", CPU)["epoch"] == result.best_epoch
    assert 0 < (result.milliseconds_per_image or 0) < 1000


def test_table_of_images_has_validation_and_test_rows_of_the_best_epoch(tmp_path: Path) -> None:
    images = make_images()
    result = fit(make_config(), images, SPLIT, tmp_path)
    table = pd.read_csv(tmp_path / "images.csv")
    assert list(table.columns[:3]) == ["image", "part", "label"]
    assert list(table["part"]) == ["validation"] * 5 + ["test"] * 5
    assert list(table["image"]) == [f"image {index}" for index in range(10, 20)]
    validation = table[table["part"] == "validation"]
    # These images have the training's size, so the original pixels are those of training.
    assert validation["dice"].mean() == pytest.approx(result.best_value)


def test_a_result_is_returned_and_nothing_is_repeated(tmp_path: Path) -> None:
    first = fit(make_config(), make_images(), SPLIT, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    recorder = Recorder(tmp_path)
    assert fit(make_config(), make_images(), SPLIT, tmp_path, recorder) == first
    assert recorder.rows == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_same_seed_gives_the_same_bits_also_after_another_training(tmp_path: Path) -> None:
    images = make_images()
    first = fit(make_config(), images, SPLIT, tmp_path / "first")
    fit(make_config(seed=1, training__epochs=1), images, SPLIT, tmp_path / "other")
    again = fit(make_config(), images, SPLIT, tmp_path / "again")
    assert without_clock(vars(first)) == without_clock(vars(again))
    assert_same_weights(best_weights(tmp_path / "first"), best_weights(tmp_path / "again"))
    maps = [
        (tmp_path / run / "predictions/image 16.png").read_bytes() for run in ("first", "again")
    ]
    assert maps[0] == maps[1]


def test_masks_of_the_test_part_do_not_reach_the_weights(tmp_path: Path) -> None:
    images = make_images()
    noise = np.random.default_rng(1)
    masks, packed = images.masks.copy(), images.packed_masks.copy()
    masks[SPLIT.test] = noise.integers(0, 2, masks[SPLIT.test].shape)
    first_byte = images.offsets[SPLIT.test[0]]
    packed[first_byte:] = noise.integers(0, 256, len(packed) - first_byte)
    noisy = dataclasses.replace(images, masks=masks, packed_masks=packed)
    true = fit(make_config(), images, SPLIT, tmp_path / "true")
    noise_result = fit(make_config(), noisy, SPLIT, tmp_path / "noise")
    assert_same_weights(best_weights(tmp_path / "true"), best_weights(tmp_path / "noise"))
    tables = [pd.read_csv(tmp_path / run / "images.csv") for run in ("true", "noise")]
    differs = (tables[0]["dice"] != tables[1]["dice"]).to_numpy()
    assert not differs[:5].any()
    assert differs[5:].all()
    assert true.tuned_threshold == noise_result.tuned_threshold
    assert true.tuned_component_px == noise_result.tuned_component_px
    by_part = dict(list(pd.read_csv(tmp_path / "noise" / "thresholds.csv").groupby("part")))
    best = {part: rows.filter(like="dice").mean().idxmax() for part, rows in by_part.items()}
    assert best["validation"] == f"dice_{true.tuned_threshold:.2f}" != best["test"]


def test_tuned_counts_are_at_the_point_in_the_result(tmp_path: Path) -> None:
    result = fit(make_config(), make_images(), SPLIT, tmp_path)
    assert result.tuned_threshold is not None
    assert result.tuned_component_px is not None
    point = OperatingPoint(result.tuned_threshold, result.tuned_component_px)
    table = pd.read_csv(tmp_path / "images.csv").set_index("image").filter(like="_tuned")
    for index in SPLIT.test:
        name = f"image {index}"
        with Image.open(tmp_path / "predictions" / f"{name}.png") as image:
            counts = counts_at(np.asarray(image), make_images().original_mask(index), point)
        assert list(table.loc[name]) == list(counts)


def test_a_result_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    result = fit(make_config(), make_images(), SPLIT, tmp_path)
    content = json.loads((tmp_path / "result.json").read_text())
    newer = ("tuned_threshold", "tuned_component_px", "milliseconds_per_image")
    for name in newer:
        del content[name]
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert read_result(tmp_path) == dataclasses.replace(result, **dict.fromkeys(newer))


def test_training_learns(tmp_path: Path) -> None:
    config = make_config(
        model__architecture="plain", optimizer__lr=0.03, training__epochs=25, training__ema_decay=0
    )
    assert (fit(config, make_images(), SPLIT, tmp_path).best_value or 0) > 0.8


def test_a_better_epoch_must_come_within_patience(tmp_path: Path) -> None:
    # At this rate nothing moves, so the first epoch stays the best.
    config = make_config(
        optimizer__lr=1e-30, optimizer__schedule="constant", training__epochs=9,
        training__patience=2, model__architecture="plain",
    )  # fmt: skip
    result = fit(config, make_images(), SPLIT, tmp_path)
    assert (result.status, result.epochs, result.best_epoch) == ("early_stopped", 3, 1)
    assert result.converged
    assert (tmp_path / "images.csv").exists()


def test_asked_to_stop_a_training_ends_pruned_and_unevaluated(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, stop_at=2)
    result = fit(make_config(), make_images(), SPLIT, tmp_path, recorder)
    assert (result.status, result.epochs, len(recorder.rows)) == ("pruned", 2, 2)
    assert result.milliseconds_per_image is None
    assert not (tmp_path / "images.csv").exists()
    assert not (tmp_path / "last.ckpt").exists()
    assert fit(make_config(), make_images(), SPLIT, tmp_path) == result


def test_asked_to_stop_after_its_last_epoch_a_training_is_finished(tmp_path: Path) -> None:
    result = fit(make_config(), make_images(), SPLIT, tmp_path, Recorder(tmp_path, stop_at=4))
    assert (result.status, result.epochs) == ("finished", 4)


class Clock:
    """Stands in for the module `time` of the loop: an epoch takes as long as it is told."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds = 0.0, list(seconds)

    def monotonic(self) -> float:
        return self.now

    def train_epoch(self, *arguments: Any) -> dict[str, float]:
        self.now += self.seconds.pop(0)
        return train_epoch(*arguments)


@pytest.mark.parametrize("break_at", [0, 2])
def test_a_training_ends_when_its_time_is_over_and_its_schedule_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_at: int
) -> None:
    """Resumed or not: the second epoch is slow, after it 3 fit, and after the third 4."""
    clock = Clock(2, 8, 2, 2, 2, 2)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "train_epoch", clock.train_epoch)
    config = make_config(training__epochs=50, training__max_seconds=16)
    recorder = Recorder(tmp_path, break_at=break_at)
    if break_at:
        with pytest.raises(KeyboardInterrupt):
            fit(config, make_images(), SPLIT, tmp_path, recorder)
        recorder.break_at = 0
    result = fit(config, make_images(), SPLIT, tmp_path, recorder)
    assert (result.status, result.epochs, result.seconds) == ("finished", 4, 14)
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert list(epochs["seconds"]) == [2, 10, 12, 14]
    # Two steps an epoch, one of them warm-up: the third epoch begins after 3 of 5 steps down.
    assert epochs["lr"][2] == pytest.approx(0.01 * (1 + math.cos(math.pi * 3 / 5)) / 2)
    assert recorder.states[-1]["learner"]["optimizer"]["param_groups"][0]["lr"] == 0


def test_a_stop_file_ends_a_training_before_its_first_epoch(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    result = fit(make_config(), make_images(), SPLIT, tmp_path)
    assert (result.status, result.epochs, result.best_value) == ("pruned", 0, None)
    assert not result.converged


def test_a_loss_that_is_not_finite_names_epoch_and_batch(tmp_path: Path) -> None:
    config = make_config(
        optimizer__name="sgd", optimizer__lr=1e38, optimizer__schedule="constant",
        optimizer__warmup_epochs=0, training__accumulate=1, training__clip_norm=0,
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match=r"loss of epoch 1 .* batch 2 of 4; lower"):
        fit(config, make_images(), SPLIT, tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_validation_loss_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    config = make_config(
        optimizer__name="sgd", optimizer__lr=1e38, optimizer__schedule="constant",
        optimizer__warmup_epochs=0, training__batch_size=10, training__clip_norm=0,
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match=r"validation loss of epoch 1 .* batch 1 of 3"):
        fit(config, make_images(), SPLIT, tmp_path)


def test_weights_are_the_moving_average_where_one_is_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    fit(make_config(training__epochs=1), make_images(), SPLIT, tmp_path, recorder)
    learner = recorder.states[0]["learner"]
    assert_same_weights(best_weights(tmp_path), learner["average"])
    assert not torch.equal(learner["model"]["0.weight"], learner["average"]["0.weight"])


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_empty_part_is_refused(tmp_path: Path, part: str) -> None:
    split = dataclasses.replace(SPLIT, **{part: np.arange(0)})
    with pytest.raises(ValueError, match=f"the {part} part of the split is empty"):
        fit(make_config(), make_images(), split, tmp_path)


def test_a_closed_test_part_is_neither_evaluated_nor_predicted(tmp_path: Path) -> None:
    split = dataclasses.replace(SPLIT, test=np.arange(0))
    fit(make_config(training__epochs=1), make_images(), split, tmp_path)
    assert set(pd.read_csv(tmp_path / "images.csv")["part"]) == {"validation"}
    assert not (tmp_path / "predictions").exists()


def test_a_monitor_without_images_is_refused(tmp_path: Path) -> None:
    split = Split(SPLIT.train, np.array([10, 15]), np.array([11, 12]))
    with pytest.raises(ValueError, match="no validation image has a lesion; use val_dice"):
        fit(make_config(training__monitor="val_dice_tumour"), make_images(), split, tmp_path)


def test_a_folder_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOCK_WAIT_SECONDS", 0.0)
    with locked(tmp_path), pytest.raises(TimeoutError, match="in use by another process"):
        fit(make_config(), make_images(), SPLIT, tmp_path)
    monkeypatch.setattr(loop, "num_ranks", lambda: 2)
    monkeypatch.setattr(loop, "RANKS_WAIT_SECONDS", 0.3)
    with locked(tmp_path), pytest.raises(TimeoutError, match=r"other workers .* 0\.005 minutes"):
        fit(make_config(), make_images(), SPLIT, tmp_path)


def test_the_evaluation_at_the_end_shows_how_far_it_is(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    config = make_config(training__epochs=1)
    fit(config, make_images(), SPLIT, tmp_path, progress=lambda *call: said.append(call))
    assert said == [
        (f"evaluation, {part} part", done, 5)
        for part in ("validation", "test")
        for done in range(6)
    ]
