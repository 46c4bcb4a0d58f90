from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from busi_tune.config import Config, ModelConfig
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.splits import Split
from busi_tune.jobs import dry_run, measure
from busi_tune.jobs.forecast import Part, expected_share, forecast, plan_search, trial_seconds
from busi_tune.jobs.measure import Cost, watch_memory
from busi_tune.models import build_model
from busi_tune.search_space import compile_space
from busi_tune.settings import override
from busi_tune.training.disk import CheckpointBytes

SPACE = {
    "model.architecture": ["unet", "report_cnn"],
    "model.base_width": {"low": 4, "high": 12, "step": 4, "when": {"model.architecture": "unet"}},
    "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "optimizer.name": "adam",
}


def make_cost(epochs: int = 27, **search: Any) -> Cost:
    """A network whose epoch takes two seconds and whose checkpoints take 300 and 100 bytes."""
    config = override(Config(), {f"search.{name}": value for name, value in search.items()})
    config.training.epochs = epochs
    return Cost(config, 1000, 2.0, None, CheckpointBytes(last=300, best=100))


@pytest.mark.parametrize(
    ("search", "share", "survivors"),
    [
        ({"pruner": "none"}, 1, 1),
        ({"objectives": ["monitor", "parameters"]}, 1, 1),
        # Rungs 3 and 9: all run 3 epochs, a third 6 more, a ninth 18 more.
        ({}, (3 + 6 / 3 + 18 / 9) / 27, 1 / 9),
        ({"reduction_factor": 2, "min_epochs": 9}, (9 + 9 / 2 + 9 / 4) / 27, 1 / 4),
        ({"min_epochs": 27}, 1, 1),
        # The training takes 54 seconds, so of the rungs 20, 60 and so on there is one.
        ({"rung_unit": "seconds", "min_seconds": 20.0}, (20 + 34 / 3) / 54, 1 / 3),
        ({"pruner": "median"}, (3 + 24 / 2) / 27, 1 / 2),
    ],
)
def test_pruners_leave_a_share_of_the_full_length(
    search: dict[str, Any], share: float, survivors: float
) -> None:
    assert expected_share(make_cost(**search)) == pytest.approx((share, survivors))


def test_hyperband_lies_between_halving_and_no_pruning() -> None:
    share, survivors = expected_share(make_cost(pruner="hyperband"))
    halving = expected_share(make_cost())
    assert halving[0] < share < 1 and halving[1] < survivors < 1


def test_only_survivors_of_the_first_inner_fold_train_on_the_others() -> None:
    one, three = make_cost(), make_cost(inner_folds=3)
    assert trial_seconds(three) - trial_seconds(one) == pytest.approx(2 * 54 / 9)


def test_a_training_takes_no_longer_than_it_may() -> None:
    cost = make_cost()
    cost.config.training.max_seconds = 20.0
    assert cost.seconds == 20
    assert expected_share(cost)[0] == pytest.approx((3 + 6 / 3 + 1 / 9) / 10)


def test_trials_fill_the_slots_and_what_follows_them_comes_in_waves() -> None:
    cost = make_cost(pruner="none")
    ahead = forecast(Part({}, 9, 40, 3), [cost], at_a_time=2)
    assert ahead.trial_seconds == 40 * 54 / 2
    assert ahead.training_seconds == 5 * 54
    # Two under way with both of their checkpoints, three leaders, nine refits.
    assert ahead.disk_bytes == 2 * 400 + 12 * 100
    assert forecast(Part({}, 0, 3), [cost], at_a_time=8).trial_seconds == 54


def test_the_budget_bounds_the_trials_but_not_the_refits() -> None:
    ahead = forecast(Part({}, 9, 40), [make_cost(pruner="none", budget="5m")], at_a_time=2)
    assert (ahead.trial_seconds, ahead.training_seconds) == (300, 270)


@pytest.mark.parametrize(
    ("search", "refits", "of_baselines"),
    [({}, 9, [6]), ({"num_trials": 1}, 3, [6]), ({"refit": 0}, 0, [])],
)
def test_refits_and_baselines_are_counted(
    search: dict[str, int], refits: int, of_baselines: list[int]
) -> None:
    settings = replace(Config().search, **search)
    trials, *others = plan_search({}, {"one": Config(), "two": Config()}, settings)
    assert (trials.num_trainings, trials.num_trials) == (refits, settings.num_trials)
    assert [part.num_trainings for part in others] == of_baselines


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(dry_run.os, "cpu_count", lambda: 8)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        ({}, 2),
        ({"gpus_per_worker": 0.5}, 4),
        ({"gpus_per_worker": 0.0}, 8),
        ({"gpus_per_worker": 0.0, "cpus_per_worker": 3.0}, 2),
        ({"gpus_per_worker": 0.0, "num_workers": 4}, 2),
        ({"gpus_per_worker": 0.0, "max_concurrent": 3}, 3),
        ({"gpus_per_worker": 4.0}, 0),
    ],
)
def test_slots_are_bounded_by_cpus_gpus_and_the_wish(resources: dict[str, Any], slots: int) -> None:
    config = override(Config(), {f"resources.{name}": value for name, value in resources.items()})
    assert dry_run.count_slots(config)[0] == slots


def test_memory_is_the_peak_and_not_what_is_left() -> None:
    read = watch_memory(torch.device("cpu"))
    torch.ones(5_000_000)  # freed at once
    peak = read()
    assert peak is None or 15e6 < peak < 100e6


def test_memory_that_the_system_does_not_tell_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "_CLEAR", tmp_path / "none" / "clear_refs")
    assert watch_memory(torch.device("cpu"))() is None


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Show the plan of a tiny search over the phantom set."""
    settings = {"data.image_size": 16, "data.phantom_images": 20, "data.cache_dir": str(tmp_path)}
    config = override(Config(), {**settings, "training.batch_size": 2, "model.base_width": 2})
    monkeypatch.setattr(dry_run.os, "cpu_count", lambda: 2)

    def run(**search: Any) -> None:
        own = override(config, {f"search.{name}": value for name, value in search.items()})
        images: ImageSet = load_images(own.data)
        unet = override(own, {"optimizer.lr": 0.02})
        report_cnn = override(own, {"model.architecture": "report_cnn"})
        part = Part({"unet": unet, "report_cnn": report_cnn}, 9, 40)
        split = Split(np.arange(6), np.arange(6, 9), np.arange(0))
        dry_run.show_plan([part], images, split, own, tmp_path / "run")

    return run


def test_the_plan_of_a_search_is_plain_lines(
    show: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(budget="1h", inner_folds=2)
    shown = capsys.readouterr().out
    assert "sampled unet: lr 0.02" in shown
    assert "sampled report_cnn: " in shown
    assert "40 trials of 2 inner folds: about" in shown and "budget 1h" in shown
    assert "9 trainings after them, of full length" in shown
    assert f"free in {tmp_path}" in shown
    assert "2 at a time on this machine (2 CPUs" in shown
    assert max(map(len, shown.replace(str(tmp_path), "").splitlines())) <= 100
    assert not (tmp_path / "run").exists()


def cells_of(shown: str, between: str) -> list[list[str]]:
    return [[c.strip() for c in line.split(between)[1:-1]] for line in shown.splitlines()]


HEADER = ["model", "parameters", "s/epoch", "epochs", "time", "memory"]


def test_the_plan_has_a_row_per_architecture_with_the_parameters_of_its_network(
    show: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    show()
    shown = capsys.readouterr().out
    assert HEADER in cells_of(shown, "┃")
    rows = {row[0]: row[1:] for row in cells_of(shown, "│") if row}
    assert list(rows) == ["unet", "report_cnn"]
    for name, row in rows.items():
        network = build_model(ModelConfig(architecture=name, base_width=2))
        assert row[0] == f"{sum(each.numel() for each in network.parameters()):,}"
        assert float(row[1]) >= 0 and row[2] == str(Config().training.epochs)


def test_the_plan_says_what_was_measured_and_what_it_comes_to(
    show: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds, memory = {"unet": 2.0, "report_cnn": 4.04}, {"unet": 2_500_000_000, "report_cnn": None}

    def made_up(config: Config, images: ImageSet, split: Split) -> Cost:
        name, length = config.model.architecture, replace(config.training, epochs=27)
        made = replace(config, training=length)
        files = CheckpointBytes(last=300, best=100)
        return Cost(made, 1234567, seconds[name], memory[name], files)

    monkeypatch.setattr(dry_run, "measure", made_up)
    show(pruner="none")
    shown = capsys.readouterr().out
    assert [row for row in cells_of(shown, "│") if row] == [
        ["unet", "1,234,567", "2.0", "27", "54 s", "2.5 GB"],
        ["report_cnn", "1,234,567", "4.0", "27", "109 s", "not measured"],
    ]
    assert "together up to 5.0 GB of memory beside the images" in shown
    # Two at a time: twenty rounds of trials and five of what follows, at a mean of 81.5 s.
    assert "40 trials: about 27 min, 100% of their full length (pruner none)" in shown
    assert "9 trainings after them, of full length: about 7 min" in shown
    assert "expected time: about 34 min" in shown


def test_the_space_is_shown_with_ranges_choices_and_conditions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dry_run.show_space(compile_space(SPACE))
    assert [row for row in cells_of(capsys.readouterr().out, "│") if row] == [
        ["model.architecture", "unet, report_cnn", ""],
        ["optimizer.lr", "0.0001 to 0.01, log", ""],
        ["optimizer.name", "always adam", ""],
        ["model.base_width", "4 to 12, step 4", "model.architecture: unet"],
    ]
