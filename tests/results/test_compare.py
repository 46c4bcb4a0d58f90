import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.command_line import Command, parse
from busi_tune.data.cache import ImageSet
from busi_tune.kfold_models import NESTED
from busi_tune.report import main
from busi_tune.results import compare
from busi_tune.results.compare import compare_runs
from busi_tune.results.pages.kfold_tables import describe_protocol
from busi_tune.results.pages.methods import write_methods
from busi_tune.results.pages.nested import write_nested
from busi_tune.results.protocol import read_protocol
from busi_tune.results.write import console_lines
from busi_tune.settings import override, to_yaml
from tests.results.conftest import read_kfold, write_kfold_run, write_search_run


def write_run(folder: Path, images: ImageSet, *models: str) -> Path:
    """A run of an earlier version: without a protocol, with what it is derived from."""
    write_kfold_run(folder, images, models, num_folds=2)
    record = run_directory.environment_record("kfold", images.data_hash, len(images))
    packages = {"packages": {"numpy": "2.0"}}
    run_directory.write_json(folder / "environment.json", record | packages)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, images: ImageSet) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    models = {"a": ("unet", "report_cnn"), "b": ("unet", "smp_unet")}
    return [write_run(folder / name, images, *two) for name, two in models.items()]


@pytest.fixture
def runs(tmp_path: Path, written: list[Path]) -> list[Path]:
    """Two runs for a test to change; the maps of their predictions are not read here."""
    without_maps = shutil.ignore_patterns("predictions")
    return [shutil.copytree(r, tmp_path / r.name, ignore=without_maps) for r in written]


def change(folder: Path, settings: dict[str, Any]) -> None:
    config = override(read_kfold(folder).config, settings)
    (folder / "config.yaml").write_text(to_yaml(config))


def make_nested(folder: Path, **settings: Any) -> None:
    """Let the run's U-Nets be the winners of searches inside the folds."""
    space = {"optimizer.lr": [0.1, 0.2], "model.architecture": ["unet"]}
    change(folder, settings | {"kfold.search": {"search.space": space, "search.num_trials": 1}})
    for name in ("folds.csv", "epochs.csv", "images.csv"):
        table = pd.read_csv(folder / name)
        table.replace({"model": {"unet": NESTED}}).to_csv(folder / name, index=False)
    trials = pd.DataFrame(
        {"repeat": 0, "fold": fold, "trial": 0, "chosen": True, "key": f"{fold}e4", "value": 0.8,
         "reason": "", "optimizer.lr": 0.1}
        for fold in (0, 1)
    )  # fmt: skip
    trials.to_csv(folder / "nested_trials.csv", index=False)


@pytest.mark.usefixtures("blank_figures")
def test_models_of_two_runs_stand_side_by_side(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs[0]), "--compare", str(runs[1])]) == 0
    (folder,) = (runs[0] / "comparisons").glob("b-*")
    names = ["unet-a", "report_cnn", "unet-b", "smp_unet"]
    table = pd.read_csv(folder / "tables" / "models.csv")
    assert list(dict.fromkeys(table["model"])) == names
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    lines = console_lines(folder)
    assert lines
    assert [shown.count(line) for line in lines] == [1] * len(lines)
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


def test_a_comparison_that_fails_leaves_the_one_before(
    runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compare_runs(runs)
    monkeypatch.setattr(compare, "_fill", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compare_runs(runs)
    assert read_kfold(before).models


def test_comparisons_with_runs_of_one_name_or_of_many_lie_side_by_side(
    runs: list[Path], tmp_path: Path, images: ImageSet
) -> None:
    others = [write_run(tmp_path / str(n) / ("long" * 20), images, "unet") for n in (1, 2)]
    folders = [compare_runs([runs[0], *chosen]) for chosen in ([others[0]], [others[1]], others)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() and len(folder.name) < 80 for folder in folders)


def test_a_comparison_cannot_be_resumed(runs: list[Path]) -> None:
    folder = compare_runs(runs)
    line = f"python -m busi_tune.report {runs[0]} --compare {runs[1]}"
    with pytest.raises(ValueError, match=f"made of finished runs; make it again by: {line}"):
        parse(Command("kfold", "", compares_models=True), ["--resume", str(folder)])


def test_epochs_of_models_without_a_finished_fold_are_left_out(runs: list[Path]) -> None:
    path = runs[1] / "epochs.csv"
    epochs = pd.read_csv(path)
    pd.concat([epochs, epochs.head(3).assign(model="fpn")]).to_csv(path, index=False)
    together = read_kfold(compare_runs(runs))
    assert set(together.epochs["model"]) == {"unet-a", "report_cnn", "unet-b", "smp_unet"}


@pytest.mark.parametrize("monitor", ["val_dice", "val_dice_tumour"])
def test_nested_searches_of_the_second_run_keep_its_settings(
    runs: list[Path], monitor: str
) -> None:
    make_nested(runs[1], **{"training.monitor": monitor, "training.epochs": 9})
    folder = compare_runs(runs)
    together = read_kfold(folder)
    for name, value in (("monitor", monitor), ("epochs", 9), ("threshold", 0.5)):
        assert together.setting(NESTED, f"training.{name}") == value
    assert together.setting(NESTED, "optimizer.lr") is None
    write_nested(together)
    write_nested(read_kfold(runs[1]))
    estimates = [(run / "tables" / "nested_estimate.csv").read_text() for run in (folder, runs[1])]
    assert estimates[0] == estimates[1]


def test_two_nested_searches_have_their_own_settings(runs: list[Path]) -> None:
    for run, epochs in zip(runs, (5, 7), strict=True):
        make_nested(run, **{"training.epochs": epochs})
    folder = compare_runs(runs)
    together = read_kfold(folder)
    for name, epochs in ((f"{NESTED}-a", 5), (f"{NESTED}-b", 7)):
        assert together.setting(name, "training.epochs") == epochs
        assert together.setting(name, "training.threshold") == 0.5
        assert together.setting(name, "optimizer.lr") is None
    assert "threshold 0.5." in describe_protocol(together)
    write_methods(together)
    text = (folder / "tables" / "methods.md").read_text()
    assert f"`{NESTED}-a` and `{NESTED}-b` were searched in the training set of each fold" in text
    assert f"`{NESTED}-a`, " not in text.split("We trained")[1].split(".")[0]
    assert "Whether a run was planned in view of another's results is not recorded" in text


def test_a_threshold_that_is_not_recorded_is_said_to_be_unknown(runs: list[Path]) -> None:
    change(runs[0], {"kfold.models": {"other": {}}, "model.architecture": "fpn"})
    assert "threshold not known." in describe_protocol(read_kfold(runs[0]))
    write_methods(read_kfold(runs[0]))
    text = (runs[0] / "tables" / "methods.md").read_text()
    assert "thresholded at a value that is not known." in text


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
