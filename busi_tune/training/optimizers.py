"""Optimisers with a learning rate of the encoder's own, and learning rates over the steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from busi_tune.config import OptimizerConfig

Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups, OptimizerConfig], Optimizer]] = {
    "adam": lambda groups, config: Adam(groups, lr=config.lr),
    "adamw": lambda groups, config: AdamW(groups, lr=config.lr),
    "nadam": lambda groups, config: NAdam(groups, lr=config.lr),
    "rmsprop": lambda groups, config: RMSprop(groups, lr=config.lr, momentum=config.momentum),
    "sgd": lambda groups, config: SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
    ),
}


def _half_wave(progress: float) -> float:
    """Fall from 1 to 0 along a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": _half_wave,
    "polynomial": lambda progress: (1 - progress) ** POWER,
    "onecycle": _half_wave,
    "plateau": lambda progress: 1.0,
}
"""What the learning rate falls to, as a share of its peak, over the time after its rise."""

POWER = 0.9
"""Of the polynomial: Chen et al., "DeepLab", TPAMI 2018."""
FIRST_SHARE = 1 / 25
"""Of the peak, with which onecycle begins."""
RISING_SHARE = 0.3
"""Of the steps, for which onecycle rises where no warm-up is set."""
REDUCTION = 1 / 3
"""What a plateau leaves of the learning rate."""


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Build the optimiser over groups of the model's trainable parameters.

    Parameters of `model.encoder`, where a model has one, learn at `lr * encoder_lr_factor`. adamw
    decays neither biases nor norm layers (tensors of one dimension), as is usual for its decoupled
    decay; all others add the L2 penalty to every parameter.

    Args:
        model: the bare network, outside any DistributedDataParallel.
        config: optimiser, rates and decay.

    Raises:
        ValueError: the optimiser is unknown.
    """
    if config.name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer.name must be one of {', '.join(OPTIMIZERS)}, got {config.name}"
        )
    return OPTIMIZERS[config.name](_parameter_groups(model, config), config)


def build_schedule(
    optimizer: Optimizer, config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> LambdaLR:
    """Build the learning rate's course; step it after every optimiser step.

    onecycle rises and falls along cosines (Smith, Topin, "Super-Convergence", 2019), the others
    rise linearly where there is a warm-up.

    Args:
        optimizer: from `build_optimizer`; its groups keep their ratio.
        config: schedule and warm-up.
        steps_per_epoch: optimiser steps of an epoch, after accumulation.
        epochs: length of the whole training.

    Raises:
        ValueError: the schedule is unknown, or the warm-up as long as the training.
    """
    if config.schedule not in SCHEDULES:
        raise ValueError(
            f"optimizer.schedule must be one of {', '.join(SCHEDULES)}, got {config.schedule}"
        )
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    total_steps = epochs * steps_per_epoch
    if warmup_steps and warmup_steps >= total_steps:
        raise ValueError(
            f"optimizer.warmup_epochs must be below training.epochs = {epochs}, got "
            f"{config.warmup_epochs}"
        )

    return LambdaLR(optimizer, _Course(config.schedule, warmup_steps, steps_per_epoch, epochs))


def stretch_schedule(schedule: LambdaLR, epochs: int, plateaus: int = 0) -> None:
    """Change the length of the whole training, from the next step on; the warm-up stays.

    Args:
        schedule: from `build_schedule`.
        epochs: the new length, in epochs, of which some may be over.
        plateaus: how often the monitor has stood still so far, each time for a third of the rate.
    """
    groups = zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    )
    for group, peak, course in groups:
        assert isinstance(course, _Course)
        course.epochs, course.plateaus = epochs, plateaus
        group["lr"] = peak * course(schedule.last_epoch)


@dataclass
class _Course:
    """The learning rate over the steps, as a share of its peak."""

    schedule: str
    warmup_steps: int
    steps_per_epoch: int
    epochs: int
    plateaus: int = 0

    def __call__(self, step: int) -> float:
        total = self.epochs * self.steps_per_epoch
        rising = self.warmup_steps
        if self.schedule == "onecycle":
            rising = rising or round(RISING_SHARE * total)
        if step < rising and self.schedule == "onecycle":
            return 1 - (1 - FIRST_SHARE) * _half_wave(step / rising)
        if step < rising:
            return (step + 1) / rising
        # A step beyond the last must not climb again.
        progress = min((step - rising) / (total - rising), 1.0) if total > rising else 1.0
        return SCHEDULES[self.schedule](progress) * REDUCTION**self.plateaus


def _parameter_groups(model: nn.Module, config: OptimizerConfig) -> Groups:
    encoder = getattr(model, "encoder", None)
    in_encoder = {id(parameter) for parameter in encoder.parameters()} if encoder else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decayed = config.name != "adamw" or parameter.ndim > 1
            groups.setdefault((id(parameter) in in_encoder, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.lr * (config.encoder_lr_factor if encoder_group else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (encoder_group, decayed), parameters in groups.items()
    ]
