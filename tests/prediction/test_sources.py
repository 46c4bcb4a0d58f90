"""Which networks of which run predict."""

from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.prediction.sources import find_source, read_trained
from busi_tune.run_directory import read_json
from tests.results.conftest import make_images, write_kfold_run, write_search_run


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return make_images()


@pytest.fixture
def kfold_run(tmp_path: Path, images: ImageSet) -> Path:
    run = write_kfold_run(tmp_path / "kfold", images, ("report_cnn", "unet"), num_folds=2)
    leave_checkpoints(run, read_text(run / run_directory.FOLDS)["key"])
    return run


@pytest.fixture
def search_run(tmp_path: Path, images: ImageSet) -> Path:
    run = write_search_run(tmp_path / "search", images)
    leave_checkpoints(run, read_text(run / run_directory.TRIALS)["key"])
    return run


def read_text(path: Path) -> pd.DataFrame:
    """Keys may look like numbers, 1e5."""
    return pd.read_csv(path, dtype={"key": str})


def leave_checkpoints(run: Path, keys: "pd.Series[str]") -> None:
    for key in keys:
        folder = run / run_directory.TRAININGS / str(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / run_directory.BEST_CHECKPOINT).touch()


def test_of_several_models_the_leader_is_taken_and_the_others_are_named(kfold_run: Path) -> None:
    source = find_source(kfold_run)
    assert source.model == "unet"
    assert list(source.weights) == ["fold-0", "fold-1"]
    assert all(path.name == "best.ckpt" for path in source.weights.values())
    assert "best mean Dice on tumour images of 2 models" in source.choice
    assert source.choice.endswith("report_cnn")


def test_another_model_is_taken_by_its_name(kfold_run: Path) -> None:
    source = find_source(kfold_run, "report_cnn")
    assert source.model == "report_cnn"
    assert {path.parent.name for path in source.weights.values()} == {"0e10", "1e10"}
    with pytest.raises(ValueError, match=r"--model fpn: .* has report_cnn, unet"):
        find_source(kfold_run, "fpn")


def test_networks_of_repeats_are_all_taken(kfold_run: Path) -> None:
    path = kfold_run / run_directory.FOLDS
    folds = read_text(path)
    again = folds.assign(repeat=1, key=folds["key"] + "r")
    pd.concat([folds, again]).to_csv(path, index=False)
    leave_checkpoints(kfold_run, again["key"])
    names = list(find_source(kfold_run).weights)
    assert names == [f"repeat-{repeat}-fold-{fold}" for repeat in (0, 1) for fold in (0, 1)]


def test_what_is_no_run_or_has_lost_its_networks_is_refused(
    kfold_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no folder"):
        find_source(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"neither trials\.csv nor folds\.csv"):
        find_source(tmp_path)
    (kfold_run / run_directory.TRAININGS / "1e4" / "best.ckpt").unlink()
    with pytest.raises(ValueError, match="1 of the 2 checkpoints of unet are not there"):
        find_source(kfold_run)
    pd.DataFrame(columns=["model", "repeat", "fold", "key", "status"]).to_csv(
        kfold_run / run_directory.FOLDS, index=False
    )
    with pytest.raises(ValueError, match="no finished training yet"):
        find_source(kfold_run)


def test_of_a_search_the_refits_of_the_winner_are_taken(search_run: Path) -> None:
    rows = [
        {"model": name, "trial": trial, "refit": refit, "key": f"{name}-{refit}",
         "best_value": value}
        for name, trial, value in (("trial 1", 1, 0.5), ("trial 3", 3, 0.6), ("known", None, 0.9))
        for refit in (0, 1)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(search_run / run_directory.REFITS, index=False)
    leave_checkpoints(search_run, table["key"])
    source = find_source(search_run)
    assert source.model == "trial 3"
    assert {n: path.parent.name for n, path in source.weights.items()} == {
        "refit-0": "trial 3-0", "refit-1": "trial 3-1",
    }  # fmt: skip
    assert find_source(search_run, "known").model == "known"


def test_of_a_search_without_refits_the_best_trial_is_taken(search_run: Path) -> None:
    trials = read_text(search_run / run_directory.TRIALS)
    best = trials[trials["state"] == "COMPLETE"].nlargest(1, "value").iloc[0]
    source = find_source(search_run)
    assert source.model == f"trial {best['trial']}"
    assert [path.parent.name for path in source.weights.values()] == [best["key"]]


def test_the_images_of_training_are_those_of_any_network(kfold_run: Path, images: ImageSet) -> None:
    assert read_trained(kfold_run) == set(images.names)
    split = read_json(kfold_run / run_directory.SPLITS)["splits"]["repeat-0/fold-0"]
    (kfold_run / run_directory.SPLITS).write_text(
        '{"splits": {"a": ' + str(split).replace("'", '"') + "}}"
    )
    assert read_trained(kfold_run) == {*split["train"], *split["validation"]}
