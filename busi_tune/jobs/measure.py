"""What a training takes on this machine, measured on a few steps."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.jobs.common import images_at
from busi_tune.training.disk import CheckpointBytes, checkpoint_bytes

if TYPE_CHECKING:
    import torch

STEPS = 3
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What a model's training takes on this machine."""

    config: Config
    num_parameters: int
    epoch_seconds: float
    """Of training and validation; an evaluated image costs a third of a trained one."""
    memory: int | None
    """Bytes at the peak of a step, network, optimiser and batch; None where it is not measured."""
    checkpoints: CheckpointBytes

    @property
    def seconds(self) -> float:
        """Of a training of full length."""
        training = self.config.training
        seconds = training.epochs * self.epoch_seconds
        return min(seconds, training.max_seconds or seconds)


def measure(config: Config, images: ImageSet, split: Split) -> Cost:
    """Time a few training steps after a first one, on the threads that a worker will have.

    Args:
        config: of the training, perhaps at another image size than that of `images`.
        images: the decoded set.
        split: as the training will have.
    """
    import torch

    from busi_tune.data.batches import DeviceImages
    from busi_tune.models import model_size, num_parameters
    from busi_tune.training.epoch import train_epoch
    from busi_tune.training.learner import build_learner
    from busi_tune.training.ranks import choose_device

    torch.set_num_threads(max(1, int(config.resources.cpus_per_worker)))
    device = choose_device(config.training.device)
    resident = DeviceImages(images_at(config, images), device)
    read_memory = watch_memory(device)
    learner = build_learner(config, device, steps_per_epoch=STEPS)
    batch = config.training.batch_size * config.training.accumulate
    train_epoch(learner, resident, split.train[:batch], config, epoch=1)
    some = split.train[: STEPS * batch]
    began = time.monotonic()
    train_epoch(learner, resident, some, config, epoch=2)
    seconds = (time.monotonic() - began) / len(some) / config.resources.num_workers
    return Cost(
        config,
        num_parameters(learner.model),
        seconds * (len(split.train) + len(split.validation) / 3),
        read_memory(),
        checkpoint_bytes(*model_size(config.model), config),
    )


def watch_memory(device: "torch.device") -> Callable[[], int | None]:
    """Begin to watch for a peak of memory.

    Returns:
        A function that gives the peak since then in bytes: of a GPU what PyTorch has allocated
        there, of a CPU how far this process has grown. None where the system does not tell.
    """
    import torch

    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device) - held
    _return_free_memory()
    try:
        _CLEAR.write_text("5")  # the peak becomes what is resident now
        before = _resident_peak()
    except OSError:
        return lambda: None
    return lambda: _resident_peak() - before


def _resident_peak() -> int:
    lines = _STATUS.read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return 1024 * int(kilobytes)


def _return_free_memory() -> None:
    """Give the memory of an earlier network back, or the next one would seem to need less."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
