"""A search through its command: gone on with, in all its ways, and refused."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from PIL import Image, ImageOps

from busi_tune import run_directory
from busi_tune.data.phantom import write_phantom
from busi_tune.run_directory import locked, read_json, write_json
from busi_tune.training.checkpoint import save_checkpoint
from tests.faults.runs import content, results, without_clock
from tests.orchestration.conftest import run_cluster
from tests.processes import TINY, run
from tests.study.test_dashboard import ask, open_dashboard
from tests.test_trackers import read_mlflow

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SMALL = [*TINY, "--training.epochs=2", "--search.num_trials=2", "--search.refit=0"]
SMALL += ["--search.sampler=random", "--search.start=[]"]
OTHER_CODE = "a hash of other sources"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Commands of this module join one cluster."""
    with run_cluster() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two trials that has ended."""
    folder = tmp_path_factory.mktemp("search") / "run"
    done = run("search", [*SMALL, f"--run_dir={folder}"])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def assert_refused(run_dir: Path, arguments: list[str], *said: str) -> None:
    before = content(run_dir)
    done = run("search", [f"--resume={run_dir}", *arguments])
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not [words for words in said if words not in done.stderr], done.stderr
    assert content(run_dir) == before, "a refused run was changed"


def test_a_finished_search_grows(run_dir: Path) -> None:
    before = results(run_dir)
    done = run("search", [f"--resume={run_dir}", "--search.num_trials=3"])
    assert done.returncode == 0, done.stderr
    assert results(run_dir).items() > before.items()
    trials = pd.read_csv(run_dir / "trials.csv")
    assert trials["trial"].tolist() == [0, 1, 2]
    assert "num_trials: 3" in (run_dir / run_directory.CONFIG).read_text()


def test_a_changed_space_is_refused_with_the_difference(run_dir: Path) -> None:
    space = '--search.space={"optimizer.lr": [0.001, 0.01]}'
    assert_refused(run_dir, [space], "cannot go on with other settings", "optimizer.lr")


def test_fewer_trials_are_refused(run_dir: Path) -> None:
    assert_refused(run_dir, ["--search.num_trials=1"], "may only grow", "it was 2, not 1")


def test_a_second_process_is_refused(run_dir: Path) -> None:
    with locked(run_dir):
        assert_refused(run_dir, ["--search.num_trials=3"], str(run_dir), "process")


def test_other_code_is_refused_before_anything_is_written(run_dir: Path) -> None:
    environment = read_json(run_dir / run_directory.ENVIRONMENT)
    write_json(run_dir / run_directory.ENVIRONMENT, {**environment, "code": OTHER_CODE})
    assert_refused(run_dir, ["--search.num_trials=3"], "its sources differ")
    done = run("search", [f"--resume={run_dir}"])
    assert done.returncode == 0, "nothing is open, so that other code may write the tables again"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_results_of_ended_trials_and_a_damaged_study_are_made_anew(
    finished: Path, run_dir: Path
) -> None:
    damaged = list(run_dir.glob("trainings/*/result.json"))
    kept = [(path.parent / run_directory.BEST_CHECKPOINT).exists() for path in damaged]
    assert sorted(kept) == [False, True], "one leads, one has lost"
    for path in (*damaged, run_dir / run_directory.STUDY):
        cut(path)
    done = run("search", [f"--resume={run_dir}"])
    assert done.returncode == 0, done.stderr
    assert "study.db was restored from study.backup.db" in done.stderr
    assert all(path.exists() for path in damaged)
    for name in ("trials.csv", "epochs.csv", "images.csv"):
        pd.testing.assert_frame_equal(*(without_clock(f / name) for f in (run_dir, finished)))


def test_a_result_that_cannot_be_made_anew_is_a_failure(run_dir: Path) -> None:
    (kept,) = run_dir.glob(f"trainings/*/{run_directory.BEST_CHECKPOINT}")
    cut(kept.with_name(run_directory.RESULT))
    save_checkpoint(kept.with_name(run_directory.LAST_CHECKPOINT), {"key": "another", "rows": []})
    done = run("search", [f"--resume={run_dir}"])
    assert done.returncode == 1, done.stderr
    assert "belongs to a training with other settings" in done.stderr.partition(" failed: ")[2]


def test_other_images_are_refused(run_dir: Path) -> None:
    assert_refused(run_dir, ["--data.phantom_images=41"], "data.phantom_images")


def test_images_of_which_one_has_changed_are_refused_with_the_difference(
    run_dir: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    write_phantom(images, num_images=40)
    image = next(path for path in images.rglob("*.png") if "mask" not in path.name)
    ImageOps.invert(Image.open(image).convert("L")).save(image)
    said = ("was made for other data", "files have changed", "restore the data")
    assert_refused(run_dir, [f"--data.root={images}", "--search.num_trials=3"], *said)


def test_the_dashboard_shows_the_study_of_a_search(run_dir: Path) -> None:
    trials = pd.read_csv(run_dir / "trials.csv")
    with open_dashboard(run_dir / run_directory.STUDY) as app:
        (summary,) = ask(app, "/api/studies")["study_summaries"]
        shown = ask(app, f"/api/studies/{summary['study_id']}")["trials"]
    assert [each["state"].upper() for each in shown] == trials["state"].tolist()
    values = [value for each in shown for value in each.get("values", [])]
    assert values == pytest.approx(trials["value"].dropna().tolist())


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated::mlflow")
def test_trials_over_inner_folds_are_tracked_and_pruned_by_seconds(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = [*SMALL, "--search.inner_folds=2", "--search.trackers=tensorboard,mlflow"]
    arguments += ["--search.rung_unit=seconds", "--search.min_seconds=0.01"]
    arguments += ["--training.max_seconds=60"]
    done = run("search", [*arguments, f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run_dir}/study.db")
    assert [trial.state.is_finished() for trial in study.trials] == [True, True]
    epochs = pd.read_csv(run_dir / "epochs.csv")
    # The first trial has nothing to be behind, the second may be stopped in its first fold.
    assert set(epochs.loc[epochs["trial"] == study.best_trial.number, "fold"]) == {0, 1}
    # Rungs in seconds: what the pruner was told is told in milliseconds of training.
    steps = sorted(study.trials[0].intermediate_values)
    assert steps[-1] > 2, "rungs count epochs"
    assert list(run_dir.rglob("events.out.tfevents.*"))
    trained = epochs.groupby(["trial", "fold"]).size()
    told = {name: len(history) for name, (_, history) in read_mlflow(run_dir).items()}
    assert told == {f"trial {trial} fold {fold}": num for (trial, fold), num in trained.items()}


def test_a_budget_ends_the_search_and_a_greater_one_goes_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = [*SMALL, "--search.num_trials=4", "--search.budget=1s", f"--run_dir={run_dir}"]
    done = run("search", arguments)
    assert done.returncode == 1, done.stderr
    assert "no trial is complete" in done.stderr and "raise search.budget" in done.stderr
    trials = pd.read_csv(run_dir / "trials.csv")
    assert set(trials["state"]) <= {"PRUNED"}, "those that ran end with their epoch"
    assert len(trials) < 4
    before = results(run_dir)
    done = run("search", [f"--resume={run_dir}", "--search.budget=10m"])
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(run_dir / "trials.csv")["trial"].tolist() == list(range(4))
    assert results(run_dir).items() > before.items()


def test_stretched_and_letterboxed_images_are_searched_in_one_run(tmp_path: Path) -> None:
    ways, run_dir = ["letterbox", "stretch"], tmp_path / "run"
    for way in ways:
        (tmp_path / f"{way}.yaml").write_text(f"data.resize: {way}\n")
    space = '--search.space={"data.resize": ["stretch", "letterbox"]}'
    starts = ",".join(str(tmp_path / f"{way}.yaml") for way in ways)
    arguments = [*SMALL, "--search.refit=1", space, f"--search.start={starts}"]
    done = run("search", [*arguments, f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    trials = pd.read_csv(run_dir / "trials.csv")
    assert trials["data.resize"].tolist() == ways
    assert trials["value"].nunique() == 2, "both trials had the same images"
    won = trials.loc[trials["value"].idxmax(), "data.resize"]
    assert f"resize: {won}" in (run_dir / run_directory.BEST).read_text()
    assert (run_dir / "report.html").exists()


def test_a_search_of_several_objectives_leaves_its_front(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = [*SMALL, "--search.objectives=monitor,parameters", "--search.pruner=none"]
    done = run("search", [*arguments, f"--run_dir={run_dir}"])
    assert done.returncode == 0, done.stderr
    trials = pd.read_csv(run_dir / "trials.csv").set_index("trial")
    assert trials["state"].tolist() == ["COMPLETE", "COMPLETE"]
    front = pd.read_csv(run_dir / "tables/pareto.csv")
    assert front["val_dice"].tolist() == trials.loc[front["trial"], "value"].tolist()
    assert trials["value"].idxmax() in front["trial"].tolist()
    assert {path.suffix for path in run_dir.glob("figures/pareto.*")} == {".png", ".svg"}
    assert (run_dir / run_directory.BEST).exists()
