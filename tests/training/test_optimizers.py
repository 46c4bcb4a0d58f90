import dataclasses
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from busi_tune.config import OptimizerConfig
from busi_tune.training.optimizers import build_optimizer, build_schedule, stretch_schedule


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.decoder = nn.Conv2d(2, 1, 3)


def find_group(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> dict[str, Any]:
    [group] = [g for g in optimizer.param_groups if any(weight is other for other in g["params"])]
    return group


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW), ("sgd", SGD)])
def test_every_weight_is_in_one_group_of_the_named_optimiser(
    name: Literal["adam", "adamw", "sgd"], kind: type
) -> None:
    model = EncoderDecoder()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, encoder_lr_factor=0.1))
    assert type(optimizer) is kind
    for weight in model.parameters():
        find_group(optimizer, weight)


def test_the_encoder_has_its_share_of_the_learning_rate() -> None:
    model = EncoderDecoder()
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-2, encoder_lr_factor=0.1))
    assert find_group(optimizer, model.encoder[0].weight)["lr"] == pytest.approx(1e-3)
    assert find_group(optimizer, model.decoder.weight)["lr"] == 1e-2


def test_a_network_without_an_encoder_learns_at_one_rate() -> None:
    optimizer = build_optimizer(nn.Conv2d(1, 1, 3), OptimizerConfig(lr=0.5, encoder_lr_factor=0.1))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.1), ("adamw", 0.0), ("sgd", 0.1)])
def test_adamw_alone_spares_biases_and_norm_layers_the_decay(
    name: Literal["adam", "adamw", "sgd"], decay: float
) -> None:
    model = EncoderDecoder()
    optimizer = build_optimizer(model, OptimizerConfig(name=name, weight_decay=0.1))
    for weight in (model.encoder[1].weight, model.encoder[0].bias, model.decoder.bias):
        assert find_group(optimizer, weight)["weight_decay"] == decay
    assert find_group(optimizer, model.decoder.weight)["weight_decay"] == 0.1


def test_frozen_weights_are_left_out() -> None:
    model = EncoderDecoder()
    model.encoder.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerConfig())
    assert len(optimizer.param_groups) == 1
    assert len(optimizer.param_groups[0]["params"]) == 2


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_takes_nesterovs_momentum_or_none(momentum: float) -> None:
    config = OptimizerConfig(name="sgd", momentum=momentum)
    [group] = build_optimizer(nn.Linear(1, 1), config).param_groups
    assert (group["momentum"], group["nesterov"]) == (momentum, momentum > 0)


def record_rates(config: OptimizerConfig, steps_per_epoch: int, epochs: int) -> list[float]:
    model = EncoderDecoder()
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, steps_per_epoch, epochs)
    rates = []
    for _ in range(steps_per_epoch * epochs):
        rates.append(find_group(optimizer, model.decoder.weight)["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_the_constant_schedule_keeps_the_rate() -> None:
    assert record_rates(OptimizerConfig(lr=0.5), 2, 3) == [0.5] * 6


def test_the_warm_up_climbs_by_equal_steps_to_the_peak() -> None:
    rates = record_rates(OptimizerConfig(lr=1.0, warmup_epochs=1.0), 4, 2)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


def test_the_cosine_falls_from_the_peak_towards_zero() -> None:
    rates = record_rates(OptimizerConfig(lr=1.0, schedule="cosine", warmup_epochs=0.5), 4, 3)
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[2 + 5] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_a_step_beyond_the_last_stays_at_zero() -> None:
    optimizer = build_optimizer(nn.Linear(1, 1), OptimizerConfig(schedule="cosine"))
    schedule = build_schedule(optimizer, OptimizerConfig(schedule="cosine"), 1, 2)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_the_groups_keep_their_ratio_over_the_schedule() -> None:
    model, config = EncoderDecoder(), OptimizerConfig(schedule="cosine", encoder_lr_factor=0.1)
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, 2, 2)
    for _ in range(3):
        optimizer.step()
        schedule.step()
        rates = [find_group(optimizer, m.weight)["lr"] for m in (model.encoder[0], model.decoder)]
        assert rates[0] == pytest.approx(0.1 * rates[1])


def test_a_restored_schedule_goes_on_where_it_was() -> None:
    config = OptimizerConfig(schedule="cosine", warmup_epochs=1.0)

    def build() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        optimizer = build_optimizer(nn.Linear(1, 1), config)
        return optimizer, build_schedule(optimizer, config, 3, 4)

    def advance(
        optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR
    ) -> float:
        optimizer.step()
        schedule.step()
        return float(optimizer.param_groups[0]["lr"])

    optimizer, schedule = build()
    for _ in range(5):
        advance(optimizer, schedule)
    restored_optimizer, restored = build()
    restored_optimizer.load_state_dict(optimizer.state_dict())
    restored.load_state_dict(schedule.state_dict())
    assert advance(restored_optimizer, restored) == advance(optimizer, schedule)


@pytest.mark.parametrize(("first", "then"), [(10, 3), (3, 10)])
def test_a_schedule_of_another_length_is_that_of_a_training_of_this_length(
    first: int, then: int
) -> None:
    config = OptimizerConfig(schedule="cosine", warmup_epochs=0.5, encoder_lr_factor=0.1)
    model = EncoderDecoder()
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, 4, first)
    rates = []
    for step in range(4 * then):
        if step == 4:
            stretch_schedule(schedule, then)
        rates.append(find_group(optimizer, model.decoder.weight)["lr"])
        optimizer.step()
        schedule.step()
    assert rates[4:] == record_rates(config, 4, then)[4:]
    assert find_group(optimizer, model.encoder[0].weight)["lr"] == pytest.approx(
        0.1 * find_group(optimizer, model.decoder.weight)["lr"], abs=1e-12
    )


def test_a_training_cut_down_to_its_warm_up_ends_at_zero() -> None:
    config = OptimizerConfig(schedule="cosine", warmup_epochs=2.0)
    optimizer = build_optimizer(nn.Linear(1, 1), config)
    schedule = build_schedule(optimizer, config, 2, 9)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    stretch_schedule(schedule, 2)
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    config = OptimizerConfig(warmup_epochs=3.0)
    optimizer = build_optimizer(nn.Linear(1, 1), config)
    with pytest.raises(ValueError, match=r"must be below training.epochs = 3, got 3.0"):
        build_schedule(optimizer, config, 5, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "lion"}, r"optimizer.name must be adam, adamw or sgd, got lion"),
        ({"schedule": "step"}, r"optimizer.schedule must be constant or cosine, got step"),
    ],
)
def test_unknown_names_are_refused(change: dict[str, Any], message: str) -> None:
    config = dataclasses.replace(OptimizerConfig(), **change)
    with pytest.raises(ValueError, match=message):
        build_schedule(build_optimizer(nn.Linear(1, 1), config), config, 1, 1)
