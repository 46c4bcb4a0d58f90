import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from busi_tune import run_directory
from busi_tune.command_line import Options
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.splits import make_folds
from busi_tune.jobs.common import open_run
from busi_tune.results.protocol import (
    find_differences,
    find_other_libraries,
    hash_groups,
    read_protocol,
)
from busi_tune.settings import override
from tests.data.conftest import write_sample
from tests.results.conftest import read_kfold, write_kfold_run


def write_environment(folder: Path, **versions: str) -> None:
    content = {"packages": {"numpy": "2.0", "scipy": "1.0", **versions}}
    (folder / run_directory.ENVIRONMENT).write_text(json.dumps(content))


def start_run(folder: Path, config: Config, command: str = "kfold", resume: bool = False) -> None:
    """Open a run as the commands do, and train nothing."""
    images = load_images(config.data)
    options = Options(config, folder, resume, dry_run=False, demo=False, print_config=False)
    with open_run(command, options, images, lambda: draw(images, config)):
        pass


def draw(images: ImageSet, config: Config) -> dict[str, Any]:
    folds = make_folds(images.labels, images.groups, config.kfold.num_folds, config.seed)
    return {f"repeat-0/fold-{number}": fold for number, fold in enumerate(folds)}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Four images a class, two of the benign ones damaged, normal ones left out."""
    for label in ("benign", "malignant", "normal"):
        for number in range(6 if label == "benign" else 4):
            write_sample(tmp_path / "set" / label, f"{label} ({number})", lesion=label != "normal")
    for number in (4, 5):
        (tmp_path / "set" / "benign" / f"benign ({number}).png").write_bytes(b"")
    settings = {
        "data.root": str(tmp_path / "set"), "data.classes": ["benign", "malignant"],
        "data.skip_bad": True, "data.groups": "none", "data.image_size": 16,
        "kfold.num_folds": 2, "seed": 3,
    }  # fmt: skip
    return override(Config(), settings)


def test_a_run_begins_with_its_protocol(tmp_path: Path, config: Config) -> None:
    start_run(tmp_path / "run", config)
    protocol = run_directory.read_json(tmp_path / "run" / "protocol.json")
    assert protocol["data"]["images_per_class"] == {"benign": 4, "malignant": 4}
    assert protocol["data"]["num_images"] == 8
    assert protocol["data"]["excluded"] == {
        "classes": {"normal": 4},
        "bad_images": ["benign (4)", "benign (5)"],
    }
    assert (protocol["groups"]["found"], protocol["groups"]["num_groups"]) == ("none", 8)
    assert "BUSI has no patient identifiers" in protocol["groups"]["statement"]
    folds = {name: protocol["folds"][name] for name in ("num_folds", "num_repeats", "seed")}
    assert folds == {"num_folds": 2, "num_repeats": 1, "seed": 3}
    assert protocol["scoring"]["thresholds"] == [0.5]
    assert protocol["scoring"]["image_size"] == 16
    assert protocol["metrics"]["libraries"]["numpy"] == np.__version__


def test_a_resumed_run_has_no_scraps_of_a_killed_start(tmp_path: Path, config: Config) -> None:
    start_run(tmp_path / "run", config)
    scrap = tmp_path / "run" / ".study.backup.db.123"
    scrap.touch()
    start_run(tmp_path / "run", config, resume=True)
    assert not scrap.exists()


def test_a_resumed_run_that_lacks_its_protocol_gets_the_same(
    tmp_path: Path, config: Config
) -> None:
    path = tmp_path / "run" / "protocol.json"
    start_run(tmp_path / "run", config)
    written = path.read_bytes()
    path.unlink()
    start_run(tmp_path / "run", config, resume=True)
    assert path.read_bytes() == written


def test_a_search_has_no_protocol(tmp_path: Path, config: Config) -> None:
    start_run(tmp_path / "run", config, command="search")
    assert not (tmp_path / "run" / "protocol.json").exists()


def test_the_derived_protocol_is_the_written_one(tmp_path: Path, images: ImageSet) -> None:
    folder = write_kfold_run(tmp_path / "run", images, ("unet",), num_folds=2)
    write_environment(folder)
    protocol = read_protocol(read_kfold(folder))
    assert protocol["data"]["images_per_class"] == {"benign": 8, "malignant": 8, "normal": 8}
    assert protocol["groups"]["num_groups"] == 12
    grouped = dict(zip(images.names, images.groups, strict=True))
    assert protocol["groups"]["hash"] == hash_groups(grouped)
    run_directory.write_json(folder / "protocol.json", protocol)
    assert read_protocol(read_kfold(folder)) == protocol


def test_an_unfinished_run_from_before_protocols_is_refused(
    tmp_path: Path, images: ImageSet
) -> None:
    folder = write_kfold_run(tmp_path / "run", images, ("unet",), num_folds=2)
    (folder / "environment.json").unlink()
    with pytest.raises(ValueError, match=r"cannot be derived.*environment\.json"):
        read_protocol(read_kfold(folder))
    write_environment(folder)
    rows = (folder / "images.csv").read_text().splitlines(keepends=True)
    (folder / "images.csv").write_text("".join(rows[:4]))
    with pytest.raises(ValueError, match="finish it by --resume"):
        read_protocol(read_kfold(folder))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"version": 2}', '{"version": 1}'])
def test_a_damaged_protocol_is_refused(tmp_path: Path, images: ImageSet, content: str) -> None:
    folder = write_kfold_run(tmp_path / "run", images, ("unet",), num_folds=2)
    (folder / "protocol.json").write_text(content)
    with pytest.raises(ValueError, match=r"protocol\.json is no protocol of a run.*delete it"):
        read_protocol(read_kfold(folder))


def test_groups_are_the_same_whatever_they_are_called() -> None:
    groups = {"a": "x", "b": "x", "c": "y"}
    assert hash_groups(groups) == hash_groups({"c": "1", "a": "2", "b": "2"})
    assert hash_groups(groups) != hash_groups({"a": "x", "b": "y", "c": "y"})


def test_differences_are_named_and_missing_metrics_are_none(
    tmp_path: Path, images: ImageSet
) -> None:
    folder = write_kfold_run(tmp_path / "run", images, ("unet",), num_folds=2)
    write_environment(folder)
    first, second = (read_protocol(read_kfold(folder)) for _ in range(2))
    second["folds"]["seed"] = 1
    second["scoring"]["thresholds"] = [0.4]
    second["data"]["images_per_class"]["other"] = 2
    second["groups"]["found"] = "csv"
    second["metrics"]["definitions"]["hd95"] = "new"
    second["metrics"]["libraries"]["numpy"] = "2.1"
    assert find_differences(first, second) == [
        "folds.seed: 0 -> 1",
        "scoring.thresholds: [0.5] -> [0.4]",
        "data.images_per_class.other: None -> 2",
    ]
    assert find_other_libraries(first, second) == ["numpy: 2.0 -> 2.1"]
    second["metrics"]["definitions"]["dice"] = "another"
    assert any(line.startswith("metrics.definitions.dice") for line in find_differences(
        first, second))  # fmt: skip
