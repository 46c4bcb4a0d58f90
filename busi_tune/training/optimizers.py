"""Optimisers with a learning rate of the encoder's own, and learning rates over the steps."""

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from busi_tune.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Build the optimiser over groups of the model's trainable parameters.

    Parameters of `model.encoder`, where a model has one, learn at `lr * encoder_lr_factor`. adamw
    decays neither biases nor norm layers (tensors of one dimension), as is usual for its decoupled
    decay; adam and sgd add the L2 penalty to every parameter.

    Args:
        model: the bare network, outside any DistributedDataParallel.
        config: optimiser, rates and decay.

    Raises:
        ValueError: the optimiser is unknown.
    """
    groups = _parameter_groups(model, config)
    if config.name == "adam":
        return Adam(groups, lr=config.lr)
    if config.name == "adamw":
        return AdamW(groups, lr=config.lr)
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    raise ValueError(f"optimizer.name must be adam, adamw or sgd, got {config.name}")


def build_schedule(
    optimizer: Optimizer, config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> LambdaLR:
    """Build the learning rate's course; step it after every optimiser step.

    Args:
        optimizer: from `build_optimizer`; its groups keep their ratio.
        config: schedule and warm-up.
        steps_per_epoch: optimiser steps of an epoch, after accumulation.
        epochs: length of the whole training.

    Raises:
        ValueError: the schedule is unknown, or the warm-up as long as the training.
    """
    if config.schedule not in ("constant", "cosine"):
        raise ValueError(f"optimizer.schedule must be constant or cosine, got {config.schedule}")
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    total_steps = epochs * steps_per_epoch
    if warmup_steps and warmup_steps >= total_steps:
        raise ValueError(
            f"optimizer.warmup_epochs must be below training.epochs = {epochs}, got "
            f"{config.warmup_epochs}"
        )

    return LambdaLR(optimizer, _Course(config.schedule, warmup_steps, steps_per_epoch, epochs))


def stretch_schedule(schedule: LambdaLR, epochs: int) -> None:
    """Change the length of the whole training, from the next step on; the warm-up stays.

    Args:
        schedule: from `build_schedule`.
        epochs: the new length, in epochs, of which some may be over.
    """
    groups = zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    )
    for group, peak, course in groups:
        assert isinstance(course, _Course)
        course.epochs = epochs
        group["lr"] = peak * course(schedule.last_epoch)


@dataclass
class _Course:
    """The learning rate over the steps, as a share of its peak."""

    schedule: str
    warmup_steps: int
    steps_per_epoch: int
    epochs: int

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        falling = self.epochs * self.steps_per_epoch - self.warmup_steps
        # A step beyond the last must not climb again.
        progress = min((step - self.warmup_steps) / falling, 1.0) if falling > 0 else 1.0
        return (1 + math.cos(math.pi * progress)) / 2


def _parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
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
