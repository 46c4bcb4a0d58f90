"""Everything of a training that changes from step to step: weights, average, optimiser, rate."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from busi_tune.config import Config
from busi_tune.data.micro_batches import MicroBatches
from busi_tune.data.seeds import derive_seed
from busi_tune.models import build_model
from busi_tune.models.heads import Outputs
from busi_tune.training.optimizers import build_optimizer, build_schedule
from busi_tune.training.ranks import average_buffers, find_largest, num_ranks, sum_gradients

logger = logging.getLogger(__name__)

BACKEND = "inductor"
"""What compiles, by its name for torch.compile."""


@dataclass
class Learner:
    """A network in training."""

    model: nn.Module
    """The network itself, of which state dicts are made."""
    average: nn.Module | None
    """Moving average of the network's weights; None where `training.ema_decay` is 0."""
    optimizer: Optimizer
    schedule: LambdaLR
    clip_norm: float
    ema_decay: float
    forward: Callable[[Tensor], Outputs]
    """The network as it is trained: compiled, or `model`."""
    micro_batches: MicroBatches = field(default_factory=partial(MicroBatches, "training"))

    @property
    def is_compiled(self) -> bool:
        """Whether the network is trained compiled."""
        return self.forward is not self.model

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.model if self.average is None else self.average

    @property
    def lr(self) -> float:
        """Learning rate of the next step, of the group with the largest."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def step(self) -> None:
        """Move the weights along the gradients, summed over the ranks, and forget these."""
        sum_gradients(self.model.parameters())
        if self.clip_norm:
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            steps = self.schedule.last_epoch
            # Early on a long memory would keep the initial weights: the warm-up of TensorFlow's
            # ExponentialMovingAverage.
            update_average(
                self.average, self.model, min(self.ema_decay, (1 + steps) / (10 + steps))
            )

    def compile(self) -> None:
        """Train the network compiled; whether that works shows at its first batch."""
        # Else the trainings of one process would share a limit of compilations.
        torch.compiler.reset()
        try:
            self.forward = torch.compile(self.model, backend=BACKEND)
        except RuntimeError as error:
            self.run_plainly(error)

    def run_plainly(self, error: Exception) -> None:
        """Train the network as it is from here on, because it could not be compiled."""
        self.forward = self.model
        # PyTorch names the compiler in the first line and the reason in the second.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join([f"{type(error).__name__}:", *lines[:2]])
        logger.warning("training.compile: the network runs as it is, compiling failed: %s", reason)

    def finish_epoch(self) -> None:
        """Bring running statistics of the ranks, and what they found out, together."""
        self.micro_batches.number = find_largest(self.micro_batches.number)
        if find_largest(not self.is_compiled):
            self.forward = self.model
        average_buffers(self.model)
        if self.average is not None:
            average_buffers(self.average)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "compiled": self.is_compiled,
            "micro_batches": self.micro_batches.number,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier process."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # Checkpoints of earlier versions say nothing of these two.
        if not state.get("compiled"):
            self.forward = self.model
        self.micro_batches.number = state.get("micro_batches", 1)


def build_learner(config: Config, device: torch.device, steps_per_epoch: int) -> Learner:
    """Build network, optimiser and schedule; every rank draws the same first weights.

    Raises:
        ValueError: batch norm is to be synchronised where it cannot be.
    """
    torch.manual_seed(derive_seed("weights", config.seed))
    model = build_model(config.model).to(device)
    if config.training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.training.sync_batchnorm and num_ranks() > 1:
        if device.type != "cuda":
            raise ValueError(
                f"training.sync_batchnorm works on GPUs only, but the ranks train on {device}; "
                "switch it off"
            )
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    optimizer = build_optimizer(model, config.optimizer)
    schedule = build_schedule(optimizer, config.optimizer, steps_per_epoch, config.training.epochs)
    average = copy.deepcopy(model).requires_grad_(False) if config.training.ema_decay else None
    learner = Learner(
        model,
        average,
        optimizer,
        schedule,
        config.training.clip_norm,
        config.training.ema_decay,
        forward=model,
    )
    if config.training.compile:
        learner.compile()
    return learner


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average to `decay * average + (1 - decay) * model`, running statistics too."""
    old = [*average.parameters(), *_statistics(average)]
    new = [*model.parameters(), *_statistics(model)]
    torch._foreach_lerp_(old, new, 1 - decay)


def _statistics(model: nn.Module) -> list[torch.Tensor]:
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]
