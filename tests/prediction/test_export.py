"""Weights that leave and come back: the same predictions, a card, and a model for ONNX Runtime."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from busi_tune import predict, run_directory
from busi_tune.command_line import BAD_INPUT, DONE, SOME_FAILED
from busi_tune.config import Config
from busi_tune.jobs.export import without_paths
from busi_tune.prediction import onnx_model
from busi_tune.prediction.card import describe_scores
from busi_tune.prediction.networks import load_networks
from busi_tune.prediction.sources import Source, find_source
from busi_tune.results.pages.kfold_tables import write_kfold_tables
from busi_tune.settings import flatten, override
from tests.prediction.conftest import Trained
from tests.results.conftest import make_images, read_kfold, write_kfold_run


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "model"
    flags = ["--run", str(trained.folder), "--model", "wide", "--export", "onnx"]
    assert predict.main([*flags, "--out", str(out)]) == DONE
    return out


def test_an_export_has_all_that_belongs_to_it(exported: Path, trained: Trained) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "fold-0.safetensors", "fold-1.safetensors", "config.yaml", "protocol.json", "splits.json",
        "model.onnx", "MODEL_CARD.md",
    }  # fmt: skip
    content = "".join(p.read_bytes().decode(errors="ignore") for p in exported.iterdir())
    assert str(trained.root) not in content
    assert str(trained.folder) not in content
    config = yaml.safe_load((exported / "config.yaml").read_text())
    assert config["model"]["base_width"] == 3
    assert config["kfold"]["models"] == {}


def test_an_export_predicts_what_its_run_does_and_knows_its_images_by_name(
    exported: Path, trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("benign (0)", "benign (3)"):
        shutil.copy(trained.root / "benign" / f"{name}.png", images)
    written = []
    for run, model in ((trained.folder, ["--model", "wide"]), (exported, [])):
        out = tmp_path / run.name
        flags = ["--run", str(run), "--images", str(images), "--out", str(out), *model]
        assert predict.main([*flags, "--device", "cpu"]) == DONE
        written.append({p.name: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) == 3
    assert "are among those that the networks were trained on" in caplog.text
    assert "have the name of an image that the networks were trained on" in caplog.text


def test_the_card_says_what_the_networks_are_and_are_not_for(exported: Path) -> None:
    card = " ".join((exported / "MODEL_CARD.md").read_text().split())
    for part in (
        "# wide", "2 networks, whose probabilities are averaged", "probability of 0.45",
        "12 images (4 benign, 4 malignant, 4 normal)", "black borders, to 16 by 16 pixels",
        "the classic U-Net", "1 epochs, in batches of 3", "model.onnx", "no medical device",
        "no patient identifiers", "None: the run has no table",
    ):  # fmt: skip
        assert part in card


def test_onnx_runtime_gives_the_average_of_the_networks(exported: Path, trained: Trained) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    squares = np.array(trained.images.images[:5])
    (found,) = session.run(None, {"images": squares[:, None].astype(np.float32) / 255})
    networks = load_networks(find_source(trained.folder, "wide").weights, "cpu")
    expected = networks.predict(torch.from_numpy(squares), use_flips=False).mean(dim=0)
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)


def test_a_model_that_differs_is_not_exported(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("busi_tune.jobs.export.write_onnx", refuse)
    flags = ["--run", str(trained.folder), "--export", "onnx", "--out", str(out)]
    assert predict.main(flags) == SOME_FAILED
    assert "differ from torch's" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def refuse(*_: object) -> float:
    raise onnx_model.ExportError("probabilities of model.onnx differ from torch's")


def test_a_difference_above_the_tolerance_is_an_error(
    exported: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Program:
        def save(self, path: str, external_data: bool) -> None:
            shutil.copy(exported / "model.onnx", path)

    monkeypatch.setattr(torch.onnx, "export", lambda *_args, **_kwargs: Program())
    own = load_networks(find_source(trained.folder, "wide").weights, "cpu")
    assert onnx_model.write_onnx(tmp_path / "same.onnx", own) < 1e-5
    other = load_networks(find_source(trained.folder, "narrow").weights, "cpu")
    with pytest.raises(onnx_model.ExportError, match="more than"):
        onnx_model.write_onnx(tmp_path / "other.onnx", other)


def test_what_cannot_be_exported_is_refused(
    exported: Path,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, run = ["--out", str(tmp_path / "out")], ["--run", str(trained.folder)]
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for flags, message in (
        ([*run, *out, "--export", "onnx"], "needs onnxscript: pip install"),
        (["--run", str(exported), *out, "--export", "safetensors"], "it is an export already"),
        ([*run, "--out", str(tmp_path), "--export", "safetensors"], "exists already"),
        ([*run, *out], "give --images to predict them, or --export"),
    ):
        assert predict.main(flags) == BAD_INPUT
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_damaged_export_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "fold-0.safetensors"
    path.write_bytes((exported / "fold-0.safetensors").read_bytes()[:200])
    with pytest.raises(ValueError, match="is damaged"):
        load_networks({"fold-0": path}, "cpu")


def test_paths_of_a_machine_and_the_run_around_a_model_do_not_leave() -> None:
    config = override(
        Config(),
        {
            "data.root": "/home/me/busi", "data.groups": "/home/me/groups.csv",
            "model.encoder_weights": "/home/me/resnet.pth", "storage": "/disk",
            "search.start": ["/home/me/best.yaml"], "kfold.models": {"a": {}}, "optimizer.lr": 0.5,
        },
    )  # fmt: skip
    left = without_paths(config)
    assert not [value for value in flatten(left).values() if str(value).startswith("/")]
    assert (left.data.groups, left.model.encoder_weights) == ("groups.csv", "resnet.pth")
    assert left.kfold.models == {}
    assert left.optimizer.lr == 0.5


def test_scores_are_those_of_the_runs_tables(tmp_path: Path) -> None:
    folder = write_kfold_run(tmp_path / "run", make_images(), ("unet", "smp_unet"), num_folds=2)
    models = write_kfold_tables(read_kfold(folder)).set_index(["model", "images"])
    weights = {"fold-0": Path(), "fold-1": Path()}
    text = describe_scores(Source(folder, "unet", weights, ""))
    row = models.loc[("unet", "tumour")]
    shown = f"{row['dice_mean']:.3f} [{row['dice_low']:.3f}, {row['dice_high']:.3f}]"
    assert f"| tumour | {row['num_images']} | {shown} |" in text
    assert "was scored on no image so far" in text
    assert "a lesion was marked" in text
    assert "chosen on these images" not in text
    assert "chosen on these images" in describe_scores(Source(folder, "smp_unet", weights, ""))


def test_the_closed_test_part_scores_a_searchs_winner(tmp_path: Path) -> None:
    tables = tmp_path / run_directory.TABLES
    tables.mkdir()
    row = {"images": "tumour", "model": "trial 3", "num_images": 58, "dice_mean": 0.7}
    pd.DataFrame([row | {"dice_low": 0.65, "dice_high": 0.75}]).to_csv(
        tables / "closed_test.csv", index=False
    )
    text = describe_scores(Source(tmp_path, "trial 3", {}, ""))
    assert "| tumour | 58 | 0.700 [0.650, 0.750] |" in text
    assert describe_scores(Source(tmp_path, "known", {}, "")).startswith("None")
