import pytest

from busi_tune.config import TrainingConfig
from busi_tune.training.history import (
    Row,
    best_epoch,
    count_plateaus,
    is_converged,
    is_exhausted,
    mean_rate,
    planned_epochs,
)


def rows(*values: float, monitor: str = "val_dice") -> list[Row]:
    return [
        {"epoch": epoch, monitor: value, "images_per_second": 10.0}
        for epoch, value in enumerate(values, start=1)
    ]


def test_best_epoch_is_the_earliest_of_equals() -> None:
    assert best_epoch(rows(0.1, 0.5, 0.5, 0.2), "val_dice") == 2
    assert best_epoch(rows(0.9, 0.2, 0.2, monitor="val_loss"), "val_loss") == 2
    assert best_epoch([], "val_dice") == 0


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([0.5, 0.4, 0.4], 2, True),
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.5, 0.5], 2, True),
        ([0.5] * 50, 0, False),
        ([], 2, False),
    ],
)
def test_patience_ends_a_training_that_no_longer_gets_better(
    values: list[float], patience: int, expected: bool
) -> None:
    assert is_exhausted(rows(*values), "val_dice", patience) is expected


@pytest.mark.parametrize(
    ("values", "patience", "warmup_epochs", "plateaus"),
    [
        ([], 2, 0.0, 0),
        ([0.5, 0.4], 2, 0.0, 0),
        ([0.5, 0.4, 0.5], 2, 0.0, 1),
        # The count starts again, from nothing.
        ([0.5, 0.4, 0.4, 0.4], 2, 0.0, 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4], 2, 0.0, 2),
        ([0.5, 0.4, 0.6, 0.4, 0.6], 2, 0.0, 1),
        ([0.5, 0.4, 0.6, 0.5, 0.7], 2, 0.0, 0),
        ([0.5, 0.4, 0.4, 0.4], 1, 0.0, 3),
        # Epochs 2 and 3 have a part of the warm-up.
        ([0.5, 0.4, 0.4, 0.4], 1, 2.5, 1),
        ([0.5, 0.4, 0.4, 0.4], 1, 2.0, 2),
    ],
)
def test_a_plateau_is_a_number_of_epochs_without_a_better_one(
    values: list[float], patience: int, warmup_epochs: float, plateaus: int
) -> None:
    assert count_plateaus(rows(*values), "val_dice", patience, warmup_epochs) == plateaus
    losses = rows(*[1 - value for value in values], monitor="val_loss")
    assert count_plateaus(losses, "val_loss", patience, warmup_epochs) == plateaus


@pytest.mark.parametrize(
    ("num_epochs", "best", "converged"),
    [(20, 17, False), (20, 16, True), (12, 11, False), (12, 10, True), (5, 4, False), (5, 3, True),
     (2, 1, False), (1, 1, False)],
)  # fmt: skip
def test_best_epoch_in_the_last_fifth_means_not_converged(
    num_epochs: int, best: int, converged: bool
) -> None:
    values = [0.9 if epoch == best else 0.1 for epoch in range(1, num_epochs + 1)]
    assert is_converged(rows(*values), "val_dice", 0) is converged


def test_a_training_that_patience_ended_has_converged() -> None:
    assert is_converged(rows(*[0.1] * 18, 0.9, 0.5), "val_dice", 1)
    assert not is_converged(rows(*[0.1] * 18, 0.9, 0.5), "val_dice", 2)
    assert not is_converged([], "val_dice", 1)


def test_mean_rate_weighs_epochs_by_their_time() -> None:
    fast, slow = {"images_per_second": 30.0}, {"images_per_second": 10.0}
    assert mean_rate([fast, slow]) == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("ends", "max_seconds", "planned"),
    [
        ([], 10, 20),
        ([2.0], 10, 5),
        # Slower than at first, then faster: the mean decides.
        ([2.0, 6.0], 10, 3),
        ([2.0, 6.0, 6.3], 10, 4),
        # Whole epochs only, and never fewer than there are.
        ([3.0], 11.9, 3),
        ([15.0], 10, 1),
        ([4.0, 12.0], 10, 2),
        ([0.1], 10, 20),
        ([100.0], 0, 20),
    ],
)
def test_the_plan_is_what_fits_into_the_time_at_the_pace_so_far(
    ends: list[float], max_seconds: float, planned: int
) -> None:
    training = TrainingConfig(epochs=20, max_seconds=max_seconds)
    assert planned_epochs([{"seconds": end} for end in ends], training) == planned
