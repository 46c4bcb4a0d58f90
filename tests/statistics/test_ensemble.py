"""Greedy selection with replacement."""

import pytest

from busi_tune.statistics.ensemble import Weights, select_greedily, select_single


def closeness(*target: float):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """The nearer the shares are to a target, the better."""

    def score(weights: Weights) -> float:
        shares = [weight / sum(weights) for weight in weights]
        return -sum(abs(share - wanted) for share, wanted in zip(shares, target, strict=True))

    return score


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ((1.0, 0.0, 0.0), (1, 0, 0)),
        ((0.5, 0.5, 0.0), (1, 1, 0)),
        ((0.0, 2 / 3, 1 / 3), (0, 2, 1)),
        ((0.3, 0.0, 0.7), (3, 0, 7)),
    ],
)
def test_weights_are_how_often_a_model_was_taken(
    target: tuple[float, ...], expected: Weights
) -> None:
    assert select_greedily(closeness(*target), 3) == expected


def test_of_equals_the_fewest_and_the_first_models_are_taken() -> None:
    assert select_greedily(lambda weights: 0.5, 3) == (1, 0, 0)
    assert select_single(lambda weights: 0.5, 3) == (1, 0, 0)


def test_a_later_round_that_is_worse_does_not_count() -> None:
    assert select_greedily(lambda weights: -abs(sum(weights) - 4), 2) == (4, 0)
    assert sum(select_greedily(lambda weights: float(sum(weights)), 2, num_rounds=3)) == 3


def test_the_best_single_model_is_one_model() -> None:
    assert select_single(closeness(0.1, 0.6, 0.3), 3) == (0, 1, 0)
