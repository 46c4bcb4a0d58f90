"""Batches in parts that fit the device's memory."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

logger = logging.getLogger(__name__)


class MicroBatches:
    """In how many parts batches run; more as soon as memory has run out."""

    def __init__(self, purpose: str) -> None:
        """Begin with whole batches.

        Args:
            purpose: what the batches are for, as the log calls it.
        """
        self.purpose = purpose
        self.number = 1

    def split(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Split (N, ...) into as many parts, of at least an image each."""
        return torch.tensor_split(batch, max(1, min(self.number, len(batch))))

    def run(self, attempt: Callable[[], T], num_images: int) -> T:
        """Make an attempt, and a new one in twice as many parts as often as memory runs out.

        Args:
            attempt: splits its batches by `split`, and starts from the beginning when made again.
            num_images: in its largest batch.

        Raises:
            torch.OutOfMemoryError: a single image does not fit.
        """
        before = self.number
        while True:
            try:
                result = attempt()
                break
            except torch.OutOfMemoryError as error:
                if self.number >= num_images:
                    raise torch.OutOfMemoryError(
                        "a single image does not fit into the device's memory: lower "
                        "data.image_size, or take a smaller model (model.architecture, "
                        f"model.base_width, model.encoder); {error}"
                    ) from error
            # Not in the handler: its error holds the tensors of the failed attempt.
            self.number = min(2 * self.number, num_images)
            torch.cuda.empty_cache()
        if self.number > before:
            logger.warning(
                "out of memory: batches of the %s run in %d parts from here on",
                self.purpose,
                self.number,
            )
        return result
