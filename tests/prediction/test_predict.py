"""The command on real files: same bits as the run's own predictions, and what it writes."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from busi_tune import predict
from busi_tune.command_line import BAD_INPUT, DONE
from busi_tune.data.phases import Phases
from busi_tune.evaluation.levels import threshold_level
from busi_tune.jobs.predict import Request, run_networks, write_predictions
from busi_tune.prediction.inputs import find_inputs
from busi_tune.prediction.networks import Network, Networks, load_networks
from busi_tune.prediction.sources import Source, find_source
from tests.prediction.conftest import Trained
from tests.training.small_training import Greedy

SCORES = ["tp", "fp", "fn", "tn", "dice", "iou", "precision", "recall", "hd95", "nsd"]


def copy_images(trained: Trained, names: list[str], folder: Path) -> Path:
    for name in names:
        for path in trained.root.glob(f"*/{name}*.png"):
            target = folder / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


@pytest.mark.parametrize("model", ["narrow", "wide"])
def test_a_fold_predicts_its_test_images_to_the_byte_and_scores_them_alike(
    trained: Trained, tmp_path: Path, model: str
) -> None:
    rows = pd.read_csv(trained.folder / "images.csv")
    of_fold = rows["model"].eq(model) & rows["fold"].eq(1) & rows["part"].eq("test")
    expected = rows[of_fold].set_index("image")
    folder = copy_images(trained, list(expected.index), tmp_path / "fold")
    whole = find_source(trained.folder, model)
    source = Source(whole.folder, model, {"fold-1": whole.weights["fold-1"]}, "")
    networks = load_networks(source.weights, "cpu")
    out = tmp_path / "out"
    with Phases() as phases:
        inputs = find_inputs(folder, networks.config.data, False, phases)
        request = Request(trained.folder, folder, out)
        write_predictions(request, source, networks, inputs, "", phases)
    for name in expected.index:
        saved = trained.folder / "predictions" / model / f"{name}.png"
        assert (out / "probabilities" / f"{name}.png").read_bytes() == saved.read_bytes()
    scores = pd.read_csv(out / "scores.csv").set_index("image")
    pd.testing.assert_frame_equal(scores.loc[expected.index, SCORES], expected[SCORES])
    table = pd.read_csv(out / "predictions.csv")
    assert table["agreement"].isna().all()
    assert table["lesion_px"].tolist() == (scores["tp"] + scores["fp"]).tolist()


def test_a_folder_is_predicted_by_the_average_of_the_folds(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "new"
    images.mkdir()
    generator = np.random.default_rng(1)
    for name, size in (("a.png", (50, 30)), ("b.jpg", (17, 40))):
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(images / name)
    out = tmp_path / "out"
    arguments = ["--run", str(trained.folder), "--images", str(images), "--model", "wide"]
    with caplog.at_level("INFO", logger="busi_tune"):
        assert predict.main([*arguments, "--out", str(out), "--device", "cpu"]) == DONE
    assert "wide (as asked for): 2 network(s), fold-0, fold-1" in caplog.text
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    kinds = ("masks", "probabilities", "overlays")
    assert files == {"predictions.csv", *(f"{kind}/{n}.png" for kind in kinds for n in "ab")}
    table = pd.read_csv(out / "predictions.csv").set_index("image")
    level = threshold_level(0.45)
    for name, size in (("a", (50, 30)), ("b", (17, 40))):
        levels = np.asarray(Image.open(out / "probabilities" / f"{name}.png"))
        mask = np.asarray(Image.open(out / "masks" / f"{name}.png"))
        assert levels.shape == mask.shape == size
        assert np.array_equal(mask, np.where(levels >= level, 255, 0))
        assert table["lesion_px"][name] == (levels >= level).sum()
    assert table["agreement"].between(0, 1).all()

    again = tmp_path / "flips"
    flags = [*arguments, "--out", str(again), "--flips", "--threshold", "0.9", "--device", "cpu"]
    assert predict.main(flags) == DONE
    for name in "ab":
        maps = [np.asarray(Image.open(f / "probabilities" / f"{name}.png")) for f in (out, again)]
        assert not np.array_equal(*maps)
        assert abs(maps[0].mean() - maps[1].mean()) < 40


def test_a_batch_that_does_not_fit_into_memory_is_split_to_the_same_maps(trained: Trained) -> None:
    config = trained.trainings[0].config
    plenty, little = Greedy(4), Greedy(1)
    little.load_state_dict(plenty.state_dict())
    maps = []
    for model in (plenty, little):
        networks = Networks({"a": Network(model, config)}, torch.device("cpu"))
        with Phases() as phases:
            inputs = find_inputs(trained.root, config.data, False, phases)
        maps.append([found.levels for found in run_networks(networks, inputs, 0.5, False)])
    assert len(maps[0]) == 12
    assert all(np.array_equal(*both) for both in zip(*maps, strict=True))
    assert plenty.seen == [4, 4, 4]
    assert little.seen == [4, 2, *(12 * [1])]


def test_images_of_training_are_warned_of_where_they_are_scored(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_images(trained, ["benign (0)", "normal (2)"], tmp_path / "mixed")
    (folder / "malignant").mkdir()
    for ending in ("", "_mask"):
        shutil.copy(
            folder / "benign" / f"benign (0){ending}.png",
            folder / "malignant" / f"other{ending}.png",
        )
    odd = folder / "malignant" / "other.png"
    Image.fromarray(255 - np.asarray(Image.open(odd))).save(odd)
    flags = ["--run", str(trained.folder), "--images", str(folder), "--out", str(tmp_path / "out")]
    assert predict.main([*flags, "--device", "cpu"]) == DONE
    assert "2 of these 3 images are among those that the networks were trained on" in caplog.text
    page = (tmp_path / "out" / "tables" / "external.md").read_text()
    assert "2 of these 3 images" in page
    assert "average of 2 networks" in page
    table = pd.read_csv(tmp_path / "out" / "tables" / "external.csv").set_index("images")
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert table["num_images"].to_dict() == {"tumour": 2, "all": 3, "normal": 1}
    tumour = scores[scores["label"] != "normal"]
    assert table["dice_mean"]["tumour"] == pytest.approx(tumour["dice"].mean())
    assert table["hd95_mean"]["all"] == pytest.approx(scores["hd95"].mean())
    assert table["dice_low"]["all"] <= table["dice_mean"]["all"] <= table["dice_high"]["all"]
    false_lesion = (scores.loc[scores["label"] == "normal", "fp"] > 0).mean()
    assert table["false_lesion_mean"]["normal"] == false_lesion


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "fpn"], "--model fpn"),
        (["--threshold", "1.5"], "--threshold must be between 0 and 1"),
        (["--images", "nowhere"], "no such folder"),
        (["--run", "nowhere"], "no folder"),
        (["--out", "."], "exists already"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    trained: Trained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    out = tmp_path / "out"
    usual = {"--run": trained.folder, "--images": trained.root, "--out": out, "--device": "cpu"}
    usual |= dict([flags])
    assert predict.main([str(part) for pair in usual.items() for part in pair]) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_bad_images_leave_nothing_behind(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    out = tmp_path / "out"
    flags = ["--run", str(trained.folder), "--images", str(tmp_path), "--out", str(out)]
    assert predict.main(flags) == BAD_INPUT
    error = capsys.readouterr().err
    assert "one.png" in error
    assert "two.png" in error
    assert not out.exists()
