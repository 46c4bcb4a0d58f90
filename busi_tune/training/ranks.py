"""The ranks of one training: what they share, sum and agree on.

Without an initialised `torch.distributed` the process is the only rank and all of this is free.
"""

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


def num_ranks() -> int:
    """Count the ranks of this training."""
    several = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if several else 1


def rank() -> int:
    """This process's number; rank 0 alone writes files."""
    return distributed.get_rank() if num_ranks() > 1 else 0


def choose_device(wish: str) -> torch.device:
    """Return the device of this rank; `auto` is a GPU where the process sees one.

    Raises:
        ValueError: cuda is wished for and there is none.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device is cuda, but no GPU is visible; use cpu or auto")
    if wish == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if num_ranks() > 1:
        local_rank = int(os.environ.get("LOCAL_RANK", rank()))
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    return torch.device("cuda", torch.cuda.current_device())


def share(items: Tensor) -> Tensor:
    """Return this rank's part of a batch or list, nearly equal to and possibly one below others."""
    return torch.tensor_split(items, num_ranks())[rank()]


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over the ranks, in place."""
    if num_ranks() > 1:
        distributed.all_reduce(values)
    return values


def agree(value: T) -> T:
    """Return rank 0's value on every rank."""
    if num_ranks() == 1:
        return value
    values = [value]
    uses_gpu = distributed.get_backend() == "nccl"
    distributed.broadcast_object_list(values, device=torch.device("cuda") if uses_gpu else None)
    return values[0]


def find_largest(value: int) -> int:
    """Return the largest of the ranks' values on every rank."""
    if num_ranks() == 1:
        return value
    values = [value] * num_ranks()
    distributed.all_gather_object(values, value)
    return max(values)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over the ranks, in one message.

    Each rank's loss is divided by the number of images of the whole step, so the sum is the
    gradient that one process would have found. A wrapper that averages and overlaps with the
    backward pass would save little at these model sizes, and costs a case for accumulation, for
    uneven batches and for unused weights each.
    """
    if num_ranks() == 1:
        return
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    total = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(total, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def average_buffers(model: nn.Module) -> None:
    """Average running statistics over the ranks, so that all validate the same network."""
    for buffer in model.buffers():
        if num_ranks() > 1 and buffer.is_floating_point():
            sum_over_ranks(buffer).div_(num_ranks())
