"""The plan of a run, measured on a few training steps; nothing is started or written."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.jobs.console import open_console

STEPS = 3


@dataclass(frozen=True)
class Cost:
    """What a model's training takes on this machine."""

    num_parameters: int
    images_per_second: float

    def seconds(self, config: Config, split: Split) -> float:
        """Estimate a full training; an evaluated image costs a third of a trained one."""
        images = len(split.train) + len(split.validation) / 3
        return config.training.epochs * images / self.images_per_second


@dataclass(frozen=True)
class Part:
    """A part of a run's trainings."""

    models: Mapping[str, Config]
    """The configurations to measure, which share the trainings evenly; of a search, samples."""
    num_trainings: int


def show_plan(parts: Sequence[Part], images: ImageSet, split: Split) -> None:
    """Print parameters, speed and time of each model, and the expected time of the run.

    Args:
        parts: the trainings of the whole run.
        images: the decoded set.
        split: a split as the trainings will have.
    """
    table = Table("model", "parameters", "images/s", "s/epoch", "epochs", "time of a training")
    total = 0.0
    for part in parts:
        for name, config in part.models.items():
            cost = measure(config, images, split)
            seconds = cost.seconds(config, split)
            total += seconds * part.num_trainings / len(part.models)
            table.add_row(
                name,
                f"{cost.num_parameters:,}",
                f"{cost.images_per_second:.1f}",
                f"{seconds / config.training.epochs:.1f}",
                str(config.training.epochs),
                _minutes(seconds),
            )
    resources = next(iter(parts[0].models.values())).resources
    workers = resources.num_workers * resources.cpus_per_worker
    at_a_time = max(1, int((os.cpu_count() or 1) // workers))
    num_trainings = sum(part.num_trainings for part in parts)
    console = open_console()
    console.print(table)
    console.print(
        f"{num_trainings} trainings, {at_a_time} at a time on this machine's CPUs: at most about "
        f"{_minutes(total / at_a_time)}, less what is stopped early. Measured over "
        f"{STEPS} steps; nothing was started.",
        soft_wrap=True,
    )


def measure(config: Config, images: ImageSet, split: Split) -> Cost:
    """Time a few training steps after a first one, on the threads that a worker will have."""
    import torch

    from busi_tune.data.batches import DeviceImages
    from busi_tune.models import num_parameters
    from busi_tune.training.epoch import train_epoch
    from busi_tune.training.learner import build_learner
    from busi_tune.training.ranks import choose_device

    torch.set_num_threads(max(1, int(config.resources.cpus_per_worker)))
    device = choose_device(config.training.device)
    learner = build_learner(config, device, steps_per_epoch=STEPS)
    resident = DeviceImages(images, device)
    batch = config.training.batch_size * config.training.accumulate
    train_epoch(learner, resident, split.train[:batch], config, epoch=1)
    some = split.train[: STEPS * batch]
    began = time.monotonic()
    train_epoch(learner, resident, some, config, epoch=2)
    rate = len(some) / (time.monotonic() - began)
    return Cost(num_parameters(learner.model), rate)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
