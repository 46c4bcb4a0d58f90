from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.training import loop
from busi_tune.training.loop import fit
from tests.training.small_training import SPLIT, Recorder, make_config, make_images, without_clock

pytestmark = pytest.mark.usefixtures("networks", "one_thread")


def assert_equal_state(first: Any, second: Any) -> None:
    """Compare nested states, tensors to the bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            if key not in ("seconds", "images_per_second"):
                assert_equal_state(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal_state(one, other)
    else:
        assert first == second


def assert_equal_trainings(
    config: Config, whole: tuple[Path, Recorder], resumed: tuple[Path, Recorder]
) -> None:
    results = [fit(config, make_images(), SPLIT, folder) for folder, _ in (whole, resumed)]
    assert without_clock(vars(results[0])) == without_clock(vars(results[1]))
    assert_equal_state(whole[1].states[-1], resumed[1].states[-1])
    for name in ("epochs.csv", "images.csv"):
        tables = [pd.read_csv(folder / name) for folder, _ in (whole, resumed)]
        clock = [column for column in tables[0] if column in ("seconds", "images_per_second")]
        pd.testing.assert_frame_equal(*(table.drop(columns=clock) for table in tables))
    best = [loop.load_checkpoint(f / "best.ckpt", torch.device("cpu")) for f, _ in (whole, resumed)]
    assert_equal_state(*best)


def run_whole(config: Config, folder: Path) -> tuple[Path, Recorder]:
    recorder = Recorder(folder)
    fit(config, make_images(), SPLIT, folder, recorder)
    return folder, recorder


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_training_broken_off_after_any_epoch_ends_as_an_unbroken_one(
    tmp_path: Path, epoch: int
) -> None:
    config, folder = make_config(), tmp_path / "resumed"
    broken, resumed = Recorder(folder, break_at=epoch), Recorder(folder)
    with pytest.raises(KeyboardInterrupt):
        fit(config, make_images(), SPLIT, folder, broken)
    fit(config, make_images(), SPLIT, folder, resumed)
    # The last checkpointed epoch is told again: the first time may not have been heard.
    assert [row["epoch"] for row in resumed.rows] == list(range(epoch, 5))
    assert resumed.rows[0] == broken.rows[-1]
    assert_equal_trainings(config, run_whole(config, tmp_path / "whole"), (folder, resumed))


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt", "epochs.csv", "images.csv"])
def test_training_killed_before_any_file_is_written_ends_as_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config, folder = make_config(), tmp_path / "resumed"
    whole = run_whole(config, tmp_path / "whole")
    write = run_directory.write_atomic

    def killed(path: Path, content: bytes | str) -> None:
        second = name == "images.csv" or (folder / "epochs.csv").exists()
        if path == folder / name and second:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patched:
        for module in ("checkpoint", "loop", "result"):
            patched.setattr(f"busi_tune.training.{module}.write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(config, make_images(), SPLIT, folder)
    resumed = Recorder(folder)
    fit(config, make_images(), SPLIT, folder, resumed)
    assert_equal_trainings(config, whole, (folder, resumed))


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_a_plateau_is_the_same_for_a_resumed_training(tmp_path: Path, epoch: int) -> None:
    config, folder = make_config(**STILL), tmp_path / "resumed"
    broken, resumed = Recorder(folder, break_at=epoch), Recorder(folder)
    with pytest.raises(KeyboardInterrupt):
        fit(config, make_images(), SPLIT, folder, broken)
    fit(config, make_images(), SPLIT, folder, resumed)
    whole = run_whole(config, tmp_path / "whole")
    assert_equal_trainings(config, whole, (folder, resumed))
    rates = [row["lr"] / 1e-30 for row in whole[1].rows]
    assert rates == pytest.approx([1, 1, 1, 1 / 3, 1 / 3, 1 / 9])


# A rate too small to change anything: the first epoch stays the best.
STILL = {
    "model__architecture": "plain",
    "optimizer__lr": 1e-30,
    "optimizer__schedule": "plateau",
    "optimizer__plateau_patience": 2,
    "optimizer__warmup_epochs": 0.0,
    "training__epochs": 6,
}


def test_patience_goes_on_where_it_was(tmp_path: Path) -> None:
    config = make_config(
        optimizer__lr=1e-30, training__epochs=9, training__patience=3, model__architecture="plain"
    )
    with pytest.raises(KeyboardInterrupt):
        fit(config, make_images(), SPLIT, tmp_path, Recorder(tmp_path, break_at=3))
    result = fit(config, make_images(), SPLIT, tmp_path)
    assert (result.status, result.epochs) == ("early_stopped", 4)


def test_seconds_add_up_over_starts(tmp_path: Path) -> None:
    broken, resumed = Recorder(tmp_path, break_at=2), Recorder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(make_config(), make_images(), SPLIT, tmp_path, broken)
    result = fit(make_config(), make_images(), SPLIT, tmp_path, resumed)
    seconds = [row["seconds"] for row in resumed.rows]
    assert seconds[0] == broken.rows[-1]["seconds"]
    assert seconds == sorted(seconds)
    assert result.seconds > seconds[-1]


def test_stop_asked_for_while_nobody_listened_is_obeyed_on_the_next_start(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(make_config(), make_images(), SPLIT, tmp_path, Recorder(tmp_path, break_at=2))
    (tmp_path / "stop").touch()
    recorder = Recorder(tmp_path)
    result = fit(make_config(), make_images(), SPLIT, tmp_path, recorder)
    assert (result.status, result.epochs) == ("pruned", 2)
    assert [row["epoch"] for row in recorder.rows] == [2]


@pytest.mark.parametrize("settings", [{"seed": 1}, {"optimizer__lr": 0.1}])
def test_checkpoint_of_another_configuration_is_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(make_config(), make_images(), SPLIT, tmp_path, Recorder(tmp_path, break_at=1))
    with pytest.raises(ValueError, match="belongs to a training with other settings"):
        fit(make_config(**settings), make_images(), SPLIT, tmp_path)


def test_a_table_cut_off_by_a_kill_after_the_last_checkpoint_is_written_again(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(make_config(), make_images(), SPLIT, tmp_path, Recorder(tmp_path, break_at=4))
    whole = (tmp_path / "epochs.csv").read_text()
    (tmp_path / "epochs.csv").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    fit(make_config(), make_images(), SPLIT, tmp_path)
    assert (tmp_path / "epochs.csv").read_text() == whole
