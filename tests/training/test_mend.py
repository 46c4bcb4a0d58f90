"""What is damaged in a training's folder is set aside and made anew."""

import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from busi_tune.config import Config
from busi_tune.models import ARCHITECTURES
from busi_tune.run_directory import locked, was_set_aside
from busi_tune.training.disk import remove_checkpoints
from busi_tune.training.loop import fit
from busi_tune.training.mend import mend_training, mend_trainings
from busi_tune.training.result import read_result
from tests.training.small_training import (
    NETWORKS,
    SPLIT,
    Recorder,
    make_config,
    make_images,
    without_clock,
)

pytestmark = pytest.mark.usefixtures("networks", "one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training, one that was broken off after its second epoch, and a pruned one."""
    folder = tmp_path_factory.mktemp("trainings")
    with pytest.MonkeyPatch.context() as patch:
        for name, builder in NETWORKS.items():
            patch.setitem(ARCHITECTURES, name, builder)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        fit(make_config(), make_images(), SPLIT, folder / "finished")
        stopped = Recorder(folder / "pruned", stop_at=2)
        fit(make_config(), make_images(), SPLIT, folder / "pruned", stopped)
        broken = Recorder(folder / "broken", break_at=2)
        with pytest.raises(KeyboardInterrupt):
            fit(make_config(), make_images(), SPLIT, folder / "broken", broken)
        torch.set_num_threads(threads)
    return folder


@pytest.fixture
def trainings(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pruned" / "stop").touch()  # as a plan leaves its decision
    return tmp_path


def cut(path: Path, share: float = 0.7) -> bytes:
    """Keep the beginning of a file, and return it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path.read_bytes()


def refit(folder: Path, config: Config | None = None) -> tuple[Recorder, str]:
    recorder = Recorder(folder)
    result = fit(config or make_config(), make_images(), SPLIT, folder, recorder)
    return recorder, result.status


def assert_restored(folder: Path, original: Path) -> None:
    """The result and every table are what they were, but for the clock."""
    results = [read_result(each) for each in (folder, original)]
    assert results[0] is not None and results[1] is not None
    assert without_clock(vars(results[0])) == without_clock(vars(results[1]))
    for name in ("epochs.csv", "images.csv", "thresholds.csv", "logits.csv"):
        tables = [pd.read_csv(each / name) for each in (folder, original)]
        clock = [column for column in tables[0] if column in ("seconds", "images_per_second")]
        pd.testing.assert_frame_equal(*(table.drop(columns=clock) for table in tables))


@pytest.mark.parametrize("share", [0.0, 0.7])
@pytest.mark.parametrize("name", ["result.json", "images.csv", "thresholds.csv", "logits.csv"])
def test_a_finished_training_is_evaluated_again_and_not_trained(
    trainings: Path, made: Path, name: str, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    folder = trainings / "finished"
    damaged = cut(folder / name, share)
    recorder, _ = refit(folder)
    assert [row["epoch"] for row in recorder.rows] == [4]
    assert_restored(folder, made / "finished")
    assert (folder / f"{name}.damaged").read_bytes() == damaged
    assert f"{folder / name} is damaged; it is set aside as {name}.damaged" in caplog.text


@pytest.mark.parametrize("names", [["epochs.csv"], ["result.json", "best.ckpt"]])
def test_a_finished_training_whose_epochs_are_lost_is_trained_again(
    trainings: Path, made: Path, names: list[str]
) -> None:
    folder = trainings / "finished"
    for name in names:
        cut(folder / name)
    recorder, _ = refit(folder)
    assert [row["epoch"] for row in recorder.rows] == [1, 2, 3, 4]
    assert_restored(folder, made / "finished")


@pytest.mark.parametrize("name", ["images.csv", "epochs.csv"])
def test_a_result_without_its_table_is_none(trainings: Path, made: Path, name: str) -> None:
    folder = trainings / "finished"
    (folder / name).unlink()
    refit(folder)
    assert_restored(folder, made / "finished")


@pytest.mark.parametrize("name", ["images.csv", "logits.csv"])
def test_a_table_cut_off_between_two_rows_is_noticed(
    trainings: Path, made: Path, name: str
) -> None:
    folder = trainings / "finished"
    lines = (folder / name).read_text().splitlines(keepends=True)
    (folder / name).write_text("".join(lines[:-2]))
    refit(folder)
    assert_restored(folder, made / "finished")


@pytest.mark.parametrize("names", [["last.ckpt"], ["best.ckpt"], ["best.ckpt", "last.ckpt"]])
def test_an_unfinished_training_without_its_checkpoints_starts_again(
    trainings: Path, made: Path, names: list[str]
) -> None:
    folder = trainings / "broken"
    for name in names:
        cut(folder / name)
    recorder, status = refit(folder)
    assert ([row["epoch"] for row in recorder.rows], status) == ([1, 2, 3, 4], "finished")
    assert_restored(folder, made / "finished")
    assert all((folder / f"{name}.damaged").exists() for name in names)


def test_a_missing_best_checkpoint_is_said(
    trainings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (trainings / "broken" / "best.ckpt").unlink()
    mend_training(trainings / "broken")
    assert "last.ckpt lacks its best.ckpt, so the training starts again" in caplog.text


def test_the_epochs_of_an_unfinished_training_are_written_again(
    trainings: Path, made: Path
) -> None:
    cut(trainings / "broken" / "epochs.csv")
    recorder, _ = refit(trainings / "broken")
    assert [row["epoch"] for row in recorder.rows] == [2, 3, 4]
    assert_restored(trainings / "broken", made / "finished")


@pytest.mark.parametrize("lost", [False, True])
def test_a_pruned_training_is_not_trained_further(trainings: Path, lost: bool) -> None:
    folder = trainings / "pruned"
    before = read_result(folder)
    if lost:
        remove_checkpoints(folder)
    cut(folder / "result.json")
    recorder, _ = refit(folder)
    after = read_result(folder)
    assert before is not None and after is not None
    assert dataclasses.replace(after, seconds=before.seconds) == before
    assert [row["epoch"] for row in recorder.rows] == [2]


def test_a_finished_training_that_was_asked_to_stop_in_its_last_epoch_is_trained_again(
    trainings: Path, made: Path
) -> None:
    folder = trainings / "finished"
    (folder / "stop").touch()
    remove_checkpoints(folder)
    cut(folder / "result.json")
    recorder, _ = refit(folder)
    assert [row["epoch"] for row in recorder.rows] == [1, 2, 3, 4]
    assert_restored(folder, made / "finished")


def test_whole_trainings_are_left_alone(trainings: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.stat().st_mtime_ns for path in trainings.rglob("*") if path.is_file()}
    mend_trainings(trainings)
    assert {p: p.stat().st_mtime_ns for p in trainings.rglob("*") if p.is_file()} == before
    assert not caplog.text


@pytest.mark.parametrize("names", [["logits.csv"], ["logits.csv", "thresholds.csv"]])
def test_a_result_of_an_earlier_version_is_whole_without_its_later_tables(
    trainings: Path, names: list[str]
) -> None:
    for name in names:
        (trainings / "finished" / name).unlink()
    mend_trainings(trainings)
    assert read_result(trainings / "finished") is not None


def test_a_damaged_reason_of_a_failure_is_set_aside(trainings: Path) -> None:
    (trainings / "broken" / "failure.json").write_text('{"reason": "the lo')
    mend_trainings(trainings)
    assert not (trainings / "broken" / "failure.json").exists()
    assert (trainings / "broken" / "failure.json.damaged").exists()
    assert (trainings / "broken" / "last.ckpt").exists()


def test_scraps_of_a_killed_training_are_removed(trainings: Path) -> None:
    scrap = trainings / "broken" / ".last.ckpt.ab_12xyz"
    scrap.touch()
    mend_trainings(trainings)
    assert not scrap.exists()


def test_the_last_checkpoint_of_a_training_that_was_killed_at_its_end_is_removed(
    trainings: Path,
) -> None:
    last = trainings / "finished" / "last.ckpt"
    last.touch()
    mend_trainings(trainings)
    assert not last.exists()
    assert read_result(trainings / "finished") is not None


def test_a_folder_in_use_is_left_to_its_user(trainings: Path) -> None:
    cut(trainings / "finished" / "result.json")
    with locked(trainings / "finished"):
        mend_trainings(trainings)
        assert not was_set_aside(trainings / "finished" / "result.json")
    mend_trainings(trainings)
    assert was_set_aside(trainings / "finished" / "result.json")
