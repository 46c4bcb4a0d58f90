"""Batches for a device out of a decoded set of images."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from busi_tune.data.cache import ImageSet
from busi_tune.data.seeds import derive_seed

RESIDENT_SHARE = 0.25
"""A set of at most this share of the device's free memory is kept there; a larger one streams."""


class DeviceImages:
    """A set of images and masks from which batches are gathered on a device.

    On a GPU the bytes are copied there once where they fit (`RESIDENT_SHARE`), else each batch
    goes there through pinned memory, while the device still computes. On the CPU the set's own
    arrays are read, so that all trainings of a machine can share one copy.
    """

    def __init__(
        self, images: ImageSet, device: torch.device, resident: bool | None = None
    ) -> None:
        """Take hold of the set.

        Args:
            images: decoded images.
            device: where batches are wanted.
            resident: whether the bytes are copied to the device; by default where they fit.
        """
        self.device = device
        self._arrays = (images.images, images.masks)
        if resident is None:
            resident = _fits(sum(array.nbytes for array in self._arrays), device)
        self._resident = (
            tuple(torch.tensor(array).to(device) for array in self._arrays) if resident else ()
        )

    def __len__(self) -> int:
        """Count the images of the set."""
        return len(self._arrays[0])

    @property
    def index_device(self) -> torch.device:
        """Where indices should lie so that gathering waits for no transfer."""
        return self.device if self._resident else torch.device("cpu")

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Gather a batch.

        Args:
            indices: (B,) int64 positions in the set.

        Returns:
            Images in [0, 1] and masks of 0 and 1, both float32 (B, 1, S, S) on the device.
        """
        indices = indices.to(self.index_device)
        if self._resident:
            images, masks = (stored[indices] for stored in self._resident)
        else:
            images, masks = (self._send(array, indices.numpy()) for array in self._arrays)
        return images[:, None].float() / 255, masks[:, None].float()

    def _send(self, array: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64]) -> Tensor:
        batch = torch.empty(
            (len(indices), *array.shape[1:]),
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        np.take(array, indices, axis=0, out=batch.numpy())
        # Torch's allocator hands the pinned memory out again only after this copy has ended.
        return batch.to(self.device, non_blocking=True)


def _fits(num_bytes: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= RESIDENT_SHARE * free


def epoch_order(indices: npt.NDArray[np.int64], seed: int, epoch: int) -> Tensor:
    """Shuffle indices (N,) for an epoch, from the seed and the epoch alone."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    return torch.tensor(indices)[torch.randperm(len(indices), generator=generator)]


def split_batches(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Split (N, ...) into as few batches as `batch_size` allows, of sizes that differ by at most 1.

    Equal sizes leave no small last batch, whose statistics would be noise, and none of a single
    image, at which batch norm over a pooled map fails, unless `batch_size` is below 3.
    """
    return torch.tensor_split(order, -(-len(order) // batch_size))
