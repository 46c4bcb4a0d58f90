from pathlib import Path

import pytest

from busi_tune.config import Config
from busi_tune.orchestration.progress import Progress
from busi_tune.plan import Outcome, Training


def make_training(number: int) -> Training:
    return Training(f"trial {number}", {"trial": number}, Config(), "search", Path("unused"))


def end(progress: Progress, number: int, value: float, status: str = "finished") -> None:
    training = make_training(number)
    progress.on_start(training)
    progress.on_epoch(training, {"epoch": 1, "val_dice": value, "val_loss": value})
    result = {"best_value": value, "best_epoch": 1, "epochs": 3, "seconds": 4.2}
    progress.on_end(training, Outcome(status, {} if status == "failed" else result, "no memory"))


def test_off_a_terminal_each_end_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("val_dice", 4, num_ended=1) as progress:
        end(progress, 0, 0.5)
        end(progress, 1, 0.25, "pruned")
        end(progress, 2, 0.0, "failed")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("trial 0: finished, best val_dice 0.5000 at epoch 1 of 3, 4 s")
    assert "2 of 4" in lines[0] and "left" in lines[0]
    assert "1 pruned, best 0.5000 (trial 0)" in lines[1]
    assert lines[2].startswith("trial 2: failed: no memory") and "4 of 4" in lines[2]


def test_the_smallest_loss_is_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("val_loss", 2) as progress:
        end(progress, 0, 0.5)
        end(progress, 1, 0.25)
    assert "best 0.2500 (trial 1)" in capsys.readouterr().out
