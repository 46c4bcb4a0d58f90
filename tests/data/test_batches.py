import numpy as np
import pytest
import torch

from busi_tune.data.batches import DeviceImages, epoch_order, split_batches
from busi_tune.data.cache import ImageSet
from busi_tune.data.seeds import derive_seed

CPU = torch.device("cpu")


def make_images(num_images: int = 6, size: int = 8) -> ImageSet:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num_images, size, size), dtype=np.uint8)
    masks = generator.integers(0, 2, (num_images, size, size), dtype=np.uint8)
    # As mapped files and shared memory come.
    images.flags.writeable = masks.flags.writeable = False
    names = tuple(f"image {index}" for index in range(num_images))
    empty = np.zeros(0, dtype=np.uint8)
    return ImageSet(
        names, names, names, size, "0", images, masks,
        np.full((num_images, 2), size, dtype=np.int32), empty, empty,
    )  # fmt: skip


@pytest.mark.parametrize("resident", [None, True, False])
def test_batch_holds_the_images_asked_for(resident: bool | None) -> None:
    stored = make_images()
    device_images = DeviceImages(stored, CPU, resident)
    indices = np.array([4, 0, 4])
    images, masks = device_images.gather(torch.tensor(indices))
    assert images.dtype == masks.dtype == torch.float32
    assert images.shape == masks.shape == (3, 1, 8, 8)
    assert np.array_equal((images[:, 0] * 255).round().numpy(), stored.images[indices])
    assert np.array_equal(masks[:, 0].numpy(), stored.masks[indices])
    assert len(device_images) == 6


def test_changing_a_batch_leaves_the_set_alone() -> None:
    stored = make_images()
    before = stored.images.copy()
    images, masks = DeviceImages(stored, CPU).gather(torch.arange(6))
    images.zero_()
    masks.zero_()
    assert np.array_equal(stored.images, before)
    assert stored.masks.any()


def test_order_is_a_permutation_from_seed_and_epoch_alone() -> None:
    indices = np.array([3, 5, 8, 13, 21, 34, 55])
    indices.flags.writeable = False
    order = epoch_order(indices, 1, 2)
    torch.manual_seed(7)
    assert torch.equal(order, epoch_order(indices, 1, 2))
    assert sorted(order.tolist()) == indices.tolist()
    assert not torch.equal(order, epoch_order(indices, 1, 3))
    assert not torch.equal(order, epoch_order(indices, 2, 2))


@pytest.mark.parametrize(
    ("num_images", "batch_size", "sizes"),
    [(9, 4, [3, 3, 3]), (8, 4, [4, 4]), (5, 8, [5]), (10, 4, [4, 3, 3]), (3, 1, [1, 1, 1])],
)
def test_batches_are_few_and_nearly_equal(
    num_images: int, batch_size: int, sizes: list[int]
) -> None:
    batches = split_batches(torch.arange(num_images), batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert torch.cat(batches).tolist() == list(range(num_images))


def test_seeds_differ_by_purpose_and_by_every_number() -> None:
    assert derive_seed("order", 1, 2) == derive_seed("order", 1, 2)
    others = [("augment", 1, 2), ("order", 2, 1), ("order", 1), ("order", 1, 2, 0)]
    seeds = [derive_seed(purpose, *numbers) for purpose, *numbers in [("order", 1, 2), *others]]
    assert len(set(seeds[:3])) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
