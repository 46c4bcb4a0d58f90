"""Names that are paths lead nowhere: what a run writes and reads stays in its directory."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from busi_tune import run_directory
from busi_tune.config import Config, DataConfig
from busi_tune.data.busi import find_samples
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.nnunet import write_nnunet
from busi_tune.data.splits import load_splits
from busi_tune.kfold_models import resolve_models
from busi_tune.prediction.sources import find_source
from busi_tune.report import main as report
from busi_tune.results.external import import_nnunet
from busi_tune.results.read import read_run
from busi_tune.settings import override
from tests.results.conftest import make_images, write_kfold_run, write_search_run

HOSTILE = ["..", ".", "../x", "/x", "a/../../x", "a/b", "", ".hidden", "a\\..\\b", "a\0b", "a\nb"]
PATHS = ["..", ".", "../x", "/x", "a/../../x", "a/b"]


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return make_images()


@pytest.fixture
def run(tmp_path: Path, images: ImageSet) -> Path:
    """A finished cross-validation of two models in a folder of its own."""
    return write_kfold_run(tmp_path / "home" / "run", images, ("unet", "report_cnn"), num_folds=2)


def list_outside(run: Path) -> set[Path]:
    """Every file and folder beside the run directory, up to the test's own folder."""
    return {path for path in run.parents[1].rglob("*") if run not in (path, *path.parents)}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_is_not_named_by_a_path(name: str, run: Path) -> None:
    config = override(Config(), {"kfold.models": {name: {"model.architecture": "unet"}}})
    with pytest.raises(ValueError, match="name folders by letters, digits"):
        resolve_models(config)
    with pytest.raises(ValueError, match="--nnunet needs a name of letters"):
        import_nnunet(run, name, run)


@pytest.mark.parametrize("name", ["", "..", "../x", "/x", "a/b", "a.b"])
def test_a_data_set_for_nnunet_is_not_named_by_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a name of letters, digits"):
        write_nnunet(tmp_path, tmp_path / "out", tmp_path / "none", name=name)
    assert not list(tmp_path.iterdir())


def plant(path: Path, column: str, name: str) -> None:
    """Put a name into the first row of a table."""
    table = pd.read_csv(path, dtype={"key": str, "image": str})
    table[column] = table[column].astype(object)
    table.loc[0, column] = name
    table.to_csv(path, index=False)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    ("table", "column"),
    [
        (run_directory.FOLDS, "model"),
        (run_directory.FOLDS, "key"),
        (run_directory.FOLDS, "fold"),
        (run_directory.FOLDS, "repeat"),
        (run_directory.IMAGES, "model"),
        (run_directory.IMAGES, "image"),
        (run_directory.EPOCHS, "model"),
    ],
)
def test_the_tables_of_a_strangers_run_name_no_path(
    table: str, column: str, name: str, run: Path
) -> None:
    plant(run / table, column, name)
    before = list_outside(run)
    for read in (read_run, find_source):
        with pytest.raises(ValueError, match=rf"{table}: .*{column}"):
            read(run)
    assert report([str(run), "--no_images"]) == 2
    assert list_outside(run) == before


@pytest.mark.parametrize(("column", "name"), [("key", "ok ../x"), ("trial", "../x")])
def test_the_trials_of_a_strangers_search_name_no_path(
    column: str, name: str, tmp_path: Path, images: ImageSet
) -> None:
    run = write_search_run(tmp_path / "search", images)
    plant(run / run_directory.TRIALS, column, name)
    with pytest.raises(ValueError, match=rf"trials\.csv: .*{column}"):
        find_source(run)


def test_a_model_from_elsewhere_names_no_path(run: Path) -> None:
    table = pd.read_csv(run / run_directory.IMAGES).assign(model="../../x")
    (run / run_directory.EXTERNAL).mkdir()
    table.to_csv(run / run_directory.EXTERNAL / "x.csv", index=False)
    with pytest.raises(ValueError, match=r"x\.csv: a model must be a name, not a path"):
        read_run(run)


def write_folder(root: Path) -> Path:
    """Six images with odd names and their masks, two a class."""
    names = ["..a", "a b;c", "-rf", "$(touch x)", "<b>", "a\\..\\..\\b"]
    for index, name in enumerate(names):
        label = ("benign", "malignant", "normal")[index % 3]
        (root / label).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 255, (12, 14), dtype=np.uint8)
        Image.fromarray(pixels).save(root / label / f"{name}.png")
        mask = np.zeros((12, 14), dtype=np.uint8)
        mask[3:6, 3:6] = 0 if label == "normal" else 255
        Image.fromarray(mask).save(root / label / f"{name}_mask.png")
    return root


def test_images_are_named_by_their_files_alone(tmp_path: Path) -> None:
    """No name has a separator of this system, and those that are hidden are no images."""
    root = write_folder(tmp_path / "images")
    samples = find_samples(root)
    assert len(samples) == 5
    assert not any("/" in sample.name or sample.name in ("", ".", "..") for sample in samples)
    config = DataConfig(
        root=str(root), image_size=8, groups="none", cache_dir=str(tmp_path / "cache")
    )
    before = set(tmp_path.rglob("*"))
    assert len(load_images(config)) == 5
    new = set(tmp_path.rglob("*")) - before
    assert new and all(tmp_path / "cache" in (path, *path.parents) for path in new)


@pytest.mark.parametrize("name", PATHS)
def test_a_csv_of_groups_names_no_path(name: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    rows = [(sample.name, name) for sample in find_samples(root)]
    path = tmp_path / "groups.csv"

    def write(rows: list[tuple[str, str]]) -> None:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("image", "group"), *rows])

    before = set(tmp_path.rglob("*"))
    write(rows)  # a group is a word and names no file
    assert {sample.group for sample in find_samples(root, groups=str(path))} == {name}
    write([*rows, (name, "x")])
    with pytest.raises(ValueError, match="unknown images"):
        find_samples(root, groups=str(path))
    assert set(tmp_path.rglob("*")) == before | {path}


@pytest.mark.parametrize("name", PATHS)
def test_a_manifest_of_splits_names_no_path(name: str, run: Path, images: ImageSet) -> None:
    path = run / run_directory.SPLITS
    manifest = json.loads(path.read_text())
    manifest["splits"]["repeat-0/fold-0"]["test"].append(name)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="names 1 images that the data does not have"):
        load_splits(path, images)
