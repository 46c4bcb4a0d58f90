"""A batch without foreground punishes false positives, whatever the losses and their weights."""

import random

import pytest
import torch

from busi_tune.config import LossConfig
from busi_tune.training.losses import build_losses, compute_loss

NAMES = tuple(build_losses(LossConfig()))
NO_LOSS = dict.fromkeys(NAMES, 0.0)


def draw_mix(seed: int) -> LossConfig:
    """Some of the losses at weights of several orders of magnitude."""
    draw = random.Random(seed)
    chosen = draw.sample(NAMES, draw.randint(2, len(NAMES)))
    weights = NO_LOSS | {name: 10 ** draw.uniform(-2, 1) for name in chosen}
    return LossConfig(
        **weights, focal_gamma=draw.uniform(0, 5), tversky_alpha=draw.uniform(0.05, 0.95)
    )


MIXES = [
    *(pytest.param(LossConfig(**NO_LOSS | {name: 1.0}), id=name) for name in NAMES),
    *(pytest.param(draw_mix(seed), id=f"mix {seed}") for seed in range(20)),
]


def predict(num_seen: int) -> torch.Tensor:
    """Logits of two images in which so many pixels are taken for a lesion."""
    logits = torch.full((2, 1, 8, 8), -6.0)
    logits.flatten(1)[:, :num_seen] = 3.0
    return logits


@pytest.mark.parametrize("config", MIXES)
def test_false_positives_cost_more_than_nothing_seen(config: LossConfig) -> None:
    empty = torch.zeros(2, 1, 8, 8)
    costs = [compute_loss(predict(seen), empty, config) for seen in (0, 1)]
    assert (costs[1] > costs[0]).all()


@pytest.mark.parametrize("config", MIXES)
def test_gradients_push_false_positives_down(config: LossConfig) -> None:
    empty, logits = torch.zeros(2, 1, 8, 8), predict(1).requires_grad_()
    compute_loss(logits, empty, config).sum().backward()
    assert logits.grad is not None
    assert (logits.grad >= 0).all()
    assert (logits.grad.flatten(1)[:, 0] > 0).all()


@pytest.mark.parametrize("config", MIXES[-3:])
def test_so_do_those_of_deep_supervision(config: LossConfig) -> None:
    empty = torch.zeros(2, 1, 8, 8)
    levels = [predict(1).requires_grad_() for _ in range(3)]
    compute_loss(tuple(levels), empty, config).sum().backward()
    for level in levels:
        assert level.grad is not None
        assert (level.grad.flatten(1)[:, 0] > 0).all()
