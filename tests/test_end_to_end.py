"""The commands as a user types them, on small synthetic images, one and two workers."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from busi_tune import run_directory
from tests.orchestration.conftest import run_cluster
from tests.processes import TINY, run, start, wait_for_end, wait_until

pytestmark = pytest.mark.ray

FOLDER = ["config.yaml", "environment.json", "splits.json", "epochs.csv", "images.csv"]
FOLDER += ["tables", "figures", "trainings"]
OTHERS = ("kfold", "train")
RAY_LINE = re.compile(r"\(\w*(pid=|raylet|autoscaler)|ray::|site-packages/ray|Trial status")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Commands of this module join one cluster, as they would on a large one."""
    with run_cluster() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        yield


def assert_complete(run_dir: Path, *more: str) -> None:
    missing = [name for name in (*FOLDER, *more) if not (run_dir / name).exists()]
    assert not missing


@pytest.fixture(scope="module")
def search_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a finished search."""
    folder = tmp_path_factory.mktemp("search") / "search"
    settings = [*TINY, "--training.epochs=2", f"--run_dir={folder}"]
    settings += ["--search.refit=1", "--search.refit_seeds=1"]
    done = run("search", [*settings, "--search.num_trials=3"])
    assert done.returncode == 0, done.stderr
    assert "python -m busi_tune.search --data.root" in done.stderr
    assert "on the closed test part, looked at once" in done.stdout
    assert done.stderr.count("dashboard: http://127.0.0.1") == 1
    flood = [line for line in f"{done.stdout}{done.stderr}".splitlines() if RAY_LINE.search(line)]
    assert not flood, "Ray's own lines"
    return folder


def test_a_search_ends_with_a_configuration(search_dir: Path) -> None:
    assert_complete(search_dir, "trials.csv", "refits.csv", "best.yaml", "study.db")
    chosen_on = yaml.safe_load((search_dir / run_directory.BEST).read_text())["data"]["chosen_on"]
    splits = run_directory.read_json(search_dir / run_directory.SPLITS)["splits"]["search"]
    assert set(chosen_on) == {*splits["train"], *splits["validation"]}
    assert set(chosen_on).isdisjoint(splits["test"])


@pytest.mark.slow
def test_the_other_commands_take_the_configuration_of_a_search(
    search_dir: Path, tmp_path: Path
) -> None:
    best = search_dir / run_directory.BEST
    done = run("train", [f"--config={best}", f"--run_dir={tmp_path / 'train'}"])
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path / "train", "folds.csv")
    # Same images, same seed: train tests on the part that the search kept closed.
    assert not pd.read_csv(tmp_path / "train" / "folds.csv")["chosen_here"].any()

    settings = [*TINY, "--training.epochs=1", "--kfold.num_folds=2"]
    done = run("kfold", [*settings, "--models", str(best), f"--run_dir={tmp_path / 'kfold'}"])
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path / "kfold", "folds.csv", "predictions")
    folds = pd.read_csv(tmp_path / "kfold" / "folds.csv")
    assert folds["model"].tolist() == ["best", "best"]
    assert folds["chosen_here"].all()


@pytest.mark.slow
def test_the_folds_predict_every_image_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    settings = [*TINY, "--training.epochs=1", "--kfold.num_folds=3", f"--run_dir={run_dir}"]
    done = run("kfold", [*settings, "--kfold.models={}", "--model.base_width=4"])
    assert done.returncode == 0, done.stderr
    images = pd.read_csv(run_dir / "images.csv")
    out_of_fold = images[images["part"] == "test"]
    assert sorted(out_of_fold["image"]) == sorted(set(images["image"]))
    assert len(out_of_fold) == 40
    saved = {path.stem for path in (run_dir / "predictions" / "unet").glob("*.png")}
    assert saved == set(out_of_fold["image"])

    written = {path: path.read_bytes() for path in (run_dir / "tables").iterdir()}
    (run_dir / "tables" / "models.md").unlink()
    done = run("report", [str(run_dir)])
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in (run_dir / "tables").iterdir()} == written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "table", "arguments"),
    [
        ("search", "trials.csv", ["--search.num_trials=1", "--search.refit=0"]),
        ("kfold", "folds.csv", ["--kfold.num_folds=2", "--kfold.models={}"]),
        ("train", "folds.csv", []),
    ],
)
def test_two_workers_train_under_ray_train(
    tmp_path: Path, command: str, table: str, arguments: list[str]
) -> None:
    run_dir = tmp_path / "run"
    settings = [*TINY, "--training.epochs=2", "--resources.num_workers=2", *arguments]
    settings.append("--resources.wait_seconds=60")
    done = run(command, [*settings, "--model.base_width=4", f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(run_dir / table)["num_workers"]) == {2}
    assert len(pd.read_csv(run_dir / "epochs.csv")) % 2 == 0


@pytest.mark.slow
def test_a_failed_trial_has_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "data: {image_size: 32, phantom_images: 40}\n"
        "model: {base_width: 4}\n"
        "training: {epochs: 2}\n"
        "search:\n"
        "  num_trials: 6\n"
        "  sampler: random\n"
        "  refit: 0\n"
        "  space: {optimizer.lr: [1.0e-3, 1.0e+30], optimizer.name: sgd}\n"
    )
    run_dir = tmp_path / "run"
    done = run("search", [f"--config={space}", f"--run_dir={run_dir}"])
    trials = pd.read_csv(run_dir / "trials.csv")
    failed = trials[trials["state"] == "FAIL"]
    assert done.returncode == 1, done.stderr
    assert len(trials) == 6 and 0 < len(failed) < 6
    assert failed["reason"].str.contains("not finite").all()
    assert set(failed["optimizer.lr"]) == {1e30}


@pytest.mark.parametrize(
    "command", ["search", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, command: str) -> None:
    run_dir = tmp_path / "run"
    done = run(command, [*TINY, "--dry_run", f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    assert "nothing was started" in done.stdout
    assert not run_dir.exists()


@pytest.mark.slow
def test_images_named_by_numbers_keep_their_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(30):
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((16, 16), np.uint8)
            pixels[4:12, 4:12] = 255
            Image.fromarray(pixels).save(root / part / f"{number:03}.png")
    run_dir = tmp_path / "run"
    settings = ["--training.epochs=1", "--model.base_width=2", "--data.image_size=16"]
    settings.append("--data.groups=none")  # one group of equal images could not be split
    done = run("train", [f"--data.root={root}", *settings, f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    images = pd.read_csv(run_dir / "images.csv", dtype=str)
    assert {len(name) for name in images["image"]} == {3}
    test = set(images[images["part"] == "test"]["image"])
    assert {path.stem for path in (run_dir / "predictions" / "unet").iterdir()} == test


@pytest.mark.slow
def test_a_training_that_fails_is_said_with_its_reason_and_exit_code_1(tmp_path: Path) -> None:
    settings = [*TINY, "--optimizer.name=sgd", "--optimizer.lr=1e30", "--model.base_width=4"]
    done = run("train", [*settings, f"--run_dir={tmp_path / 'run'}"])
    assert done.returncode == 1
    assert "not finite" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminated_run_says_how_to_go_on(tmp_path: Path) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    driver = start("search", [*TINY, f"--run_dir={run_dir}"], log, os.environ["RAY_ADDRESS"])
    wait_until(lambda: any(run_dir.glob("trainings/*/epochs.csv")), "an epoch")
    driver.terminate()
    wait_for_end(driver, log, 240, code=130)
    assert f"python -m busi_tune.search --resume {run_dir}" in log.read_text()


@pytest.mark.parametrize("command", ["search", "kfold"])
def test_a_folder_with_errors_is_refused_before_anything_starts(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "images" / "benign").mkdir(parents=True)
    (tmp_path / "images" / "benign" / "a.png").write_bytes(b"no image")
    done = run(command, [f"--data.root={tmp_path / 'images'}", f"--run_dir={tmp_path / 'run'}"])
    assert done.returncode == 2
    assert "a.png" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
