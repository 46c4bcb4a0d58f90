"""The script that compares a cross-validation on naive folds with one on grouped folds."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.flags import load_settings
from busi_tune.run_directory import write_json
from busi_tune.settings import override, to_yaml
from tests.results.conftest import ENVIRONMENT, make_images, write_kfold_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "experiments" / "inflation.py"
    spec = importlib.util.spec_from_file_location("inflation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return make_images()


@pytest.fixture
def runs(tmp_path: Path, images: ImageSet) -> tuple[Path, Path]:
    """Two runs; Dice of a tumour image is 0.1 higher on naive folds where it had a twin."""
    grouped = write_kfold_run(tmp_path / "grouped", images, ("unet",), num_folds=2)
    write_json(grouped / "environment.json", ENVIRONMENT | {"data_hash": "1"})
    naive = tmp_path / "naive"
    shutil.copytree(grouped, naive)
    table = pd.read_csv(naive / "images.csv")
    twins = table.loc[table["part"] == "test", "image"].iloc[:8]
    table.loc[table["image"].isin(twins), "dice"] += 0.1
    table.to_csv(naive / "images.csv", index=False)
    rows = "".join(f"own,repeat-0/fold-0,{name},other,identical\n" for name in twins)
    (naive / "audit.csv").write_text(f"folds,split,image,twin,level\n{rows}")
    change(naive, {"data.groups": "none"})
    return naive, grouped


def change(run_dir: Path, settings: dict[str, Any]) -> None:
    config = override(Config(), load_settings(run_dir / "config.yaml"))
    (run_dir / "config.yaml").write_text(to_yaml(override(config, settings)))


def compare(script: ModuleType, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    out = runs[0].parent / "out"
    arguments = ["inflation.py", *map(str, runs), "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    script.main()
    return out


def test_only_images_with_a_twin_gain(
    script: ModuleType, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = compare(script, runs, monkeypatch)
    table = pd.read_csv(out / "inflation.csv").set_index("images")
    assert table.loc["identical", "difference"] == pytest.approx(0.1)
    assert table.loc["none", "difference"] == pytest.approx(0)
    assert table.loc["neighbour", "num_images"] == 0
    share = table.loc["identical", "num_images"] / table.loc["all", "num_images"]
    assert table.loc["all", "difference"] == pytest.approx(0.1 * share)
    page = (out / "inflation.md").read_text()
    for said in ("holds the trained networks fixed", "probability 0.5", "empty prediction"):
        assert said in page


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.epochs": 9}, "data.groups alone, got unet: training.epochs: 8 -> 9"),
        ({"seed": 3}, "unet: seed: 0 -> 3"),
        ({"kfold.models": {"unet": {"loss.bce": 2.0}}}, "unet: loss.bce: "),
        ({"kfold.models": {"other": {}}}, "no model in common"),
    ],
)
def test_runs_that_differ_in_more_than_groups_are_refused(
    script: ModuleType,
    runs: tuple[Path, Path],
    settings: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(runs[1], settings)
    if "other" in settings.get("kfold.models", {}):
        folds = pd.read_csv(runs[1] / "folds.csv").assign(model="other")
        folds.to_csv(runs[1] / "folds.csv", index=False)
    with pytest.raises(SystemExit, match=message):
        compare(script, runs, monkeypatch)


def test_what_decides_no_number_may_differ(
    script: ModuleType, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(runs[1], {"resources.max_concurrent": 2, "kfold.models": {"unet": {}, "more": {}}})
    change(runs[0], {"kfold.models": {"unet": {}}})
    assert (compare(script, runs, monkeypatch) / "inflation.csv").exists()
