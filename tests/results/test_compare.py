from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.report import main
from busi_tune.results.compare import compare_runs
from busi_tune.results.protocol import read_protocol
from busi_tune.results.read import KfoldRun, read_run
from tests.results.conftest import write_kfold_run, write_search_run


def read_kfold(folder: Path) -> KfoldRun:
    run = read_run(folder)
    assert isinstance(run, KfoldRun)
    return run


def write_run(folder: Path, images: ImageSet, *models: str) -> Path:
    """A run of an earlier version: without a protocol, with what it is derived from."""
    write_kfold_run(folder, images, models, num_folds=2)
    record = run_directory.environment_record("kfold", images.data_hash, len(images))
    packages = {"packages": {"numpy": "2.0"}}
    run_directory.write_json(folder / "environment.json", record | packages)
    return folder


@pytest.fixture
def runs(tmp_path: Path, images: ImageSet) -> list[Path]:
    return [
        write_run(tmp_path / "a", images, "unet", "report_cnn"),
        write_run(tmp_path / "b", images, "unet", "smp_unet"),
    ]


def test_models_of_two_runs_stand_side_by_side(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs[0]), "--compare", str(runs[1])]) == 0
    folder = runs[0] / "comparisons" / "b"
    names = ["unet-a", "report_cnn", "unet-b", "smp_unet"]
    table = pd.read_csv(folder / "tables" / "models.csv")
    assert list(dict.fromkeys(table["model"])) == names
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    pairs = pd.read_csv(folder / "tables" / "pairs.csv")
    assert {"unet-a", "smp_unet"} <= {*pairs["first"], *pairs["second"]}
    assert (folder / "figures" / "models.svg").exists()
    assert not (runs[0] / "tables").exists()


def test_every_model_keeps_its_figures_and_settings(runs: list[Path]) -> None:
    together = read_kfold(compare_runs(runs))
    for run, model, name in (
        (runs[0], "unet", "unet-a"), (runs[1], "unet", "unet-b"), (runs[1], "smp_unet", "smp_unet")
    ):  # fmt: skip
        alone = read_kfold(run)
        expected = alone.images.loc[alone.images["model"] == model, "dice"].tolist()
        found = together.images.loc[together.images["model"] == name, "dice"].tolist()
        assert found == expected
        assert together.setting(name, "model.architecture") == model


def test_comparing_again_writes_the_same(runs: list[Path]) -> None:
    written = []
    for _ in range(2):
        folder = compare_runs(runs)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


def test_runs_of_other_protocols_are_refused_with_every_difference(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = read_protocol(read_kfold(runs[1]))
    protocol["folds"]["seed"] = 1
    protocol["scoring"]["thresholds"] = [0.4]
    run_directory.write_json(runs[1] / "protocol.json", protocol)
    assert main([str(runs[0]), "--compare", str(runs[1])]) == 2
    error = capsys.readouterr().err
    assert "folds.seed: 0 -> 1\n" in error
    assert "scoring.thresholds: [0.5] -> [0.4]\n" in error
    assert not (runs[0] / "comparisons").exists()


def test_other_versions_of_libraries_are_said(
    runs: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = runs[1] / "environment.json"
    path.write_text(path.read_text().replace("2.0", "2.1"))
    compare_runs(runs)
    assert "b was scored with other versions: numpy: 2.0 -> 2.1" in caplog.text


def test_what_is_no_cross_validation_is_refused(
    runs: list[Path], tmp_path: Path, images: ImageSet, capsys: pytest.CaptureFixture[str]
) -> None:
    search = write_search_run(tmp_path / "search", images)
    for others, message in (
        ([search], "it is a search"),
        ([tmp_path], "is no run directory"),
        ([runs[0]], "comes twice"),
    ):
        assert main([str(runs[0]), "--compare", *map(str, others)]) == 2
        assert message in capsys.readouterr().err
