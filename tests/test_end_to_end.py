"""The commands as a user types them, on small synthetic images, one and two workers."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from busi_tune import run_directory
from tests.orchestration.conftest import run_cluster
from tests.processes import TINY, run

pytestmark = pytest.mark.ray

FOLDER = ["config.yaml", "environment.json", "splits.json", "epochs.csv", "images.csv"]
FOLDER += ["tables", "figures", "trainings"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Commands of this module join one cluster, as they would on a large one."""
    with run_cluster() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        yield


def assert_complete(run_dir: Path, *more: str) -> None:
    missing = [name for name in (*FOLDER, *more) if not (run_dir / name).exists()]
    assert not missing


def test_a_search_ends_with_a_configuration_that_the_other_commands_take(tmp_path: Path) -> None:
    search_dir = tmp_path / "search"
    settings = [*TINY, "--training.epochs=2", f"--run_dir={search_dir}"]
    done = run("search", [*settings, "--search.num_trials=3"])
    assert done.returncode == 0, done.stderr
    assert "python -m busi_tune.search --data.root" in done.stderr
    assert_complete(search_dir, "trials.csv", "best.yaml", "study.db")

    best = search_dir / run_directory.BEST
    chosen_on = yaml.safe_load(best.read_text())["data"]["chosen_on"]
    splits = run_directory.read_json(search_dir / run_directory.SPLITS)["splits"]["search"]
    assert set(chosen_on) == {*splits["train"], *splits["validation"]}
    assert set(chosen_on).isdisjoint(splits["test"])

    done = run("train", [f"--config={best}", f"--run_dir={tmp_path / 'train'}"])
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path / "train", "folds.csv")
    assert pd.read_csv(tmp_path / "train" / "folds.csv")["chosen_here"].all()

    settings = [*TINY, "--training.epochs=1", "--kfold.num_folds=2"]
    done = run("kfold", [*settings, "--models", str(best), f"--run_dir={tmp_path / 'kfold'}"])
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path / "kfold", "folds.csv", "predictions")
    folds = pd.read_csv(tmp_path / "kfold" / "folds.csv")
    assert folds["model"].tolist() == ["best", "best"]
    assert folds["chosen_here"].all()


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


@pytest.mark.parametrize(
    ("command", "table", "arguments"),
    [
        ("search", "trials.csv", ["--search.num_trials=1"]),
        ("kfold", "folds.csv", ["--kfold.num_folds=2", "--kfold.models={}"]),
        ("train", "folds.csv", []),
    ],
)
def test_two_workers_train_under_ray_train(
    tmp_path: Path, command: str, table: str, arguments: list[str]
) -> None:
    run_dir = tmp_path / "run"
    settings = [*TINY, "--training.epochs=2", "--resources.num_workers=2", *arguments]
    done = run(command, [*settings, "--model.base_width=4", f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(run_dir / table)["num_workers"]) == {2}
    assert len(pd.read_csv(run_dir / "epochs.csv")) % 2 == 0


def test_a_failed_trial_has_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "data: {image_size: 32, phantom_images: 40}\n"
        "model: {base_width: 4}\n"
        "training: {epochs: 2}\n"
        "search:\n"
        "  num_trials: 6\n"
        "  sampler: random\n"
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


@pytest.mark.parametrize("command", ["search", "kfold", "train"])
def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, command: str) -> None:
    run_dir = tmp_path / "run"
    done = run(command, [*TINY, "--dry_run", f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    assert "nothing was started" in done.stdout
    assert not run_dir.exists()


def test_a_folder_with_errors_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "images" / "benign").mkdir(parents=True)
    (tmp_path / "images" / "benign" / "a.png").write_bytes(b"no image")
    done = run("search", [f"--data.root={tmp_path / 'images'}", "--search.space={seed: [1, 2]}",
                          f"--run_dir={tmp_path / 'run'}"])  # fmt: skip
    assert done.returncode == 2
    assert "a.png" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
