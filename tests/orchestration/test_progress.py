import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from busi_tune.config import Config
from busi_tune.orchestration.progress import Progress
from busi_tune.orchestration.standings import Contender, describe_settings, draw_sparkline
from busi_tune.plan import Outcome, Training
from busi_tune.run_directory import write_json
from busi_tune.settings import override


class Run:
    """A run of which a number of trainings is open, on a clock that is moved by hand."""

    def __init__(
        self, num_open: int, monitor: str = "val_dice", *, earlier: Sequence[Training] = (),
        seconds_left: float | None = None, inner_folds: int = 1,
    ) -> None:  # fmt: skip
        self.open, self.now = num_open, 0.0
        settings = {"training.monitor": monitor, "search.inner_folds": inner_folds}
        self.config = override(Config(), settings)
        self.progress = Progress(
            self.config, lambda: self.open, earlier, seconds_left, clock=lambda: self.now
        )

    def training(self, number: int, **identity: object) -> Training:
        config = override(self.config, {"optimizer.lr": 10.0**-number, "training.epochs": 3})
        name = " ".join(f"{key} {value}" for key, value in identity.items()) or f"trial {number}"
        return Training(name, {"trial": number, **identity}, config, "search", Path("unused"))

    def end(
        self, training: Training, value: float, status: str = "finished", seconds: float = 10
    ) -> None:
        self.progress.on_start(training)
        self.progress.on_epoch(training, {"epoch": 1, "val_dice": value, "val_loss": value})
        self.open -= 1
        self.now += seconds
        result = {"best_value": value, "best_epoch": 1, "epochs": 3, "seconds": 4.2}
        outcome = Outcome(status, {} if status == "failed" else result, "no memory")
        self.progress.on_end(training, outcome)

    def screen(self) -> str:
        console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system=None)
        console.print(self.progress._draw())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()


def test_off_a_terminal_each_end_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(4)
    with run.progress:
        run.end(run.training(0), 0.5)
        run.end(run.training(1), 0.25, "pruned")
        run.end(run.training(2), 0.0, "failed")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("trial 0: finished, best val_dice 0.5000 at epoch 1 of 3, 4 s")
    assert "[1 of 4, best 0.5000 (trial 0), about 0:30 left]" in lines[0]
    assert "1 pruned, best 0.5000 (trial 0)" in lines[1]
    assert lines[2].startswith("trial 2: failed: no memory") and "3 of 4" in lines[2]
    assert not any("\x1b" in line for line in lines)


def test_the_smallest_loss_is_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(2, "val_loss")
    run.end(run.training(0), 0.5)
    run.end(run.training(1), 0.25)
    run.end(run.training(2), 0.75)
    assert "best 0.2500 (trial 1)" in capsys.readouterr().out.splitlines()[2]
    assert run.screen().index("trial 1") < run.screen().index("trial 0")


def test_the_table_shows_who_runs_who_leads_and_what_became_of_the_rest() -> None:
    run = Run(8)
    for number, value in enumerate((0.4, 0.7, 0.6, 0.5)):
        run.end(run.training(number), value)
    run.end(run.training(4), 0.9, "pruned")
    run.end(run.training(5), 0.0, "failed")
    running = run.training(6)
    run.progress.on_start(running)
    run.progress.on_epoch(running, {"epoch": 2, "val_dice": 0.25})
    screen = run.screen()
    assert "6 of 8: 1 running, 4 finished, 1 pruned, 1 failed; 1:00 so far" in screen
    assert "trial 6" in screen and "2/3" in screen and "0.2500" in screen
    assert "best 0.7000 (trial 1) after 2, 0:20  ▁█" in screen
    leaders = screen[screen.index("leaders") :]
    order = [leaders.index(f"trial {number}") for number in (1, 2, 3)]
    assert order == sorted(order) and "trial 0" not in leaders and "trial 4" not in leaders
    assert "lr 0.1, epochs 3" in leaders


def test_what_is_left_shrinks_with_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(9)
    run.end(run.training(0), 0.5)
    run.open = 3
    run.end(run.training(1), 0.25, "pruned")
    lines = capsys.readouterr().out.splitlines()
    assert "1 of 9" in lines[0] and "2 of 4" in lines[1]
    assert "about 0:20 left" in lines[1]


@pytest.mark.parametrize(("budget", "left"), [(25.0, "0:15"), (900.0, "1:30"), (5.0, "1:30")])
def test_the_budget_bounds_the_time_left_while_it_lasts(
    budget: float, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(10, seconds_left=budget)
    run.end(run.training(0), 0.5)
    assert f"about {left} left" in capsys.readouterr().out


def test_earlier_ends_count_and_lead_but_do_not_set_the_pace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "result.json", {"status": "finished", "best_value": 0.75})
    before = Training("trial 0", {"trial": 0}, Config(), "search", tmp_path)
    open_still = Training("trial 1", {"trial": 1}, Config(), "search", tmp_path / "1")
    run = Run(2, earlier=[before, open_still])
    run.end(run.training(1), 0.5)
    assert "[2 of 3, best 0.7500 (trial 0), about 0:10 left]" in capsys.readouterr().out
    assert "best 0.7500 (trial 0) after 1  " in run.screen()


def test_folds_count_for_their_model_or_trial_by_their_mean() -> None:
    run = Run(6, inner_folds=2)
    run.end(run.training(0, model="unet", fold=0), 0.9)
    run.end(run.training(0, model="unet", fold=1), 0.5)
    run.end(run.training(1, model="fpn", fold=0), 0.8)
    run.end(run.training(0, model="unet", refit=0), 0.1)
    run.end(run.training(3, fold=0), 0.3)
    run.end(run.training(3, fold=1), 0.2)
    rows = [line.split("│") for line in run.screen().splitlines() if line.count("│") == 5]
    means = [(row[1].strip(), row[2].strip(), row[3].strip()) for row in rows]
    expected = [("fpn", "1", "0.8000"), ("unet", "2", "0.7000"), ("trial 3", "2", "0.2500")]
    assert means == expected


def test_a_trial_is_ranked_once_all_its_inner_folds_have_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run(9, inner_folds=2)
    for trial, fold, value in ((0, 0, 0.9), (0, 1, 0.5), (1, 0, 0.8), (2, 0, 0.6), (2, 1, 0.7)):
        run.end(run.training(trial, fold=fold), value)
    told = capsys.readouterr().out.splitlines()
    assert "best 0." not in told[0].partition("[")[2]
    assert all("best 0.7000 (trial 0)" in line for line in told[1:])
    # The first fold of trial 1 was well, but the race stopped it.
    leaders = run.screen()[run.screen().index("leaders") :]
    assert leaders.index("trial 0") < leaders.index("trial 2") and "trial 1" not in leaders


def test_refits_leave_the_best_of_the_search_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(3)
    run.end(run.training(0), 0.5)
    run.end(run.training(0, model="trial 0", refit=0), 0.9)
    assert "best 0.5000 (trial 0)" in capsys.readouterr().out.splitlines()[1]


def test_trials_of_several_searches_are_told_apart() -> None:
    run = Run(2)
    for split, value in (("0-0/search", 0.5), ("0-1/search", 0.7)):
        training = Training(f"trial 0 of {split}", {"trial": 0}, Config(), split, Path("unused"))
        run.end(training, value)
    assert "trial 0 of 0-0/search │ 1" in run.screen()


def test_the_table_is_drawn_while_others_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(4)
    run.end(run.training(0), 0.5)
    others = iter([1, 2])

    def is_ranked(contender: Contender) -> bool:
        for number in others:
            run.end(run.training(number), 0.25)
        return True

    monkeypatch.setattr(Contender, "is_ranked", property(is_ranked))
    run.screen()
    assert "trial 2" in run.screen()


def test_settings_are_named_in_short_where_they_differ() -> None:
    settings = {
        "model.architecture": "fpn", "optimizer.lr": 0.00123456, "training.epochs": 9,
        "model.encoder_weights": "folder/weights.pth", "seed": 3, "data.chosen_on": ["a"],
    }  # fmt: skip
    described = describe_settings(override(Config(), settings), Config())
    assert described == "fpn, encoder_weights weights.pth, lr 0.00123, epochs 9"


def test_a_sparkline_keeps_its_width_and_its_last_value() -> None:
    assert draw_sparkline([], 4) == ""
    assert draw_sparkline([0.5, 0.5], 4) == "▁▁"
    assert draw_sparkline([0.0, 0.5, 1.0], 4) == "▁▅█"
    long = draw_sparkline([number / 99 for number in range(100)], 8)
    assert len(long) == 8 and long[-1] == "█"
