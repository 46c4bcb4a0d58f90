import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, RMSprop

from busi_tune.config import OptimizerConfig
from busi_tune.settings import CHOICES
from busi_tune.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    build_schedule,
    stretch_schedule,
)


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.decoder = nn.Conv2d(2, 1, 3)


def find_group(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> dict[str, Any]:
    [group] = [g for g in optimizer.param_groups if any(weight is other for other in g["params"])]
    return group


KINDS = {"adam": Adam, "adamw": AdamW, "nadam": NAdam, "rmsprop": RMSprop, "sgd": SGD}


def make(**settings: Any) -> OptimizerConfig:
    return OptimizerConfig(**settings)


def test_every_name_of_the_configuration_has_its_builder() -> None:
    assert set(OPTIMIZERS) == set(CHOICES["optimizer.name"]) == set(KINDS)
    assert set(SCHEDULES) == set(CHOICES["optimizer.schedule"])


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_weight_is_in_one_group_of_the_named_optimiser(name: str, kind: type) -> None:
    model = EncoderDecoder()
    optimizer = build_optimizer(model, make(name=name, encoder_lr_factor=0.1))
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


@pytest.mark.parametrize("name", KINDS)
def test_adamw_alone_spares_biases_and_norm_layers_the_decay(name: str) -> None:
    model = EncoderDecoder()
    optimizer = build_optimizer(model, make(name=name, weight_decay=0.1))
    decay = 0.0 if name == "adamw" else 0.1
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


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_rmsprop_takes_the_momentum(momentum: float) -> None:
    config = OptimizerConfig(name="rmsprop", momentum=momentum)
    [group] = build_optimizer(nn.Linear(1, 1), config).param_groups
    assert group["momentum"] == momentum


@pytest.mark.parametrize("name", KINDS)
def test_a_restored_optimiser_goes_on_to_the_same_bits(name: str) -> None:
    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(2, 1)).square().sum().backward()
            optimizer.step()

    config = make(name=name, lr=0.01, weight_decay=0.1)
    model, restored = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer, other = build_optimizer(model, config), build_optimizer(restored, config)
    advance(model, optimizer, 3)
    restored.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = model.weight.clone()
    advance(model, optimizer, 2)
    advance(restored, other, 2)
    assert torch.equal(model.weight, restored.weight) and not torch.equal(model.weight, before)


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


def test_the_polynomial_falls_from_the_peak_by_its_power() -> None:
    rates = record_rates(OptimizerConfig(lr=1.0, schedule="polynomial", warmup_epochs=0.5), 4, 3)
    expected = [(1 - step / 10) ** 0.9 for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, *expected])


@pytest.mark.parametrize(("warmup_epochs", "rising"), [(0.0, 6), (2.5, 10)])
def test_onecycle_rises_and_falls_along_cosines(warmup_epochs: float, rising: int) -> None:
    config = OptimizerConfig(lr=1.0, schedule="onecycle", warmup_epochs=warmup_epochs)
    rates = record_rates(config, 4, 5)
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[rising // 2] == pytest.approx((1 + 1 / 25) / 2)
    assert rates[rising] == 1.0
    assert rates[rising + (20 - rising) // 2] == pytest.approx(0.5)
    assert rates[: rising + 1] == sorted(rates[: rising + 1])
    assert rates[rising:] == sorted(rates[rising:], reverse=True)


def test_a_onecycle_of_a_single_step_is_at_its_peak() -> None:
    assert record_rates(OptimizerConfig(lr=0.5, schedule="onecycle"), 1, 1) == [0.5]


def test_every_plateau_takes_two_thirds_of_every_groups_rate() -> None:
    config = OptimizerConfig(lr=0.9, schedule="plateau", encoder_lr_factor=0.1)
    model = EncoderDecoder()
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, 2, 5)
    found = []
    for plateaus in (0, 1, 1, 2):
        stretch_schedule(schedule, 5, plateaus)
        optimizer.step()
        schedule.step()
        parts = (model.encoder[0], model.decoder)
        found.append([find_group(optimizer, part.weight)["lr"] for part in parts])
    decoder = [0.9, 0.3, 0.3, 0.1]
    assert [rates[1] for rates in found] == pytest.approx(decoder)
    assert [rates[0] for rates in found] == pytest.approx([0.1 * rate for rate in decoder])


@pytest.mark.parametrize("name", ["cosine", "polynomial", "onecycle"])
def test_a_step_beyond_the_last_stays_at_zero(name: str) -> None:
    config = make(schedule=name)
    optimizer = build_optimizer(nn.Linear(1, 1), config)
    schedule = build_schedule(optimizer, config, 1, 2)
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


@pytest.mark.parametrize("warmup_epochs", [0.5, 0.0])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("first", "then"), [(10, 3), (3, 10)])
def test_a_schedule_of_another_length_is_that_of_a_training_of_this_length(
    first: int, then: int, name: str, warmup_epochs: float
) -> None:
    config = make(schedule=name, warmup_epochs=warmup_epochs, encoder_lr_factor=0.1)
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
        ({"name": "lion"}, r"optimizer.name must be one of adam, adamw, .*, got lion"),
        ({"schedule": "step"}, r"optimizer.schedule must be one of constant, .*, got step"),
    ],
)
def test_unknown_names_are_refused(change: dict[str, Any], message: str) -> None:
    config = dataclasses.replace(OptimizerConfig(), **change)
    with pytest.raises(ValueError, match=message):
        build_schedule(build_optimizer(nn.Linear(1, 1), config), config, 1, 1)
