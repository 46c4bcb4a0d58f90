from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from busi_tune.data.batches import DeviceImages
from busi_tune.training.epoch import train_epoch, validate
from busi_tune.training.learner import build_learner
from tests.training.small_training import CPU, SPLIT, make_config, make_images

pytestmark = pytest.mark.usefixtures("networks", "one_thread")


class Reads(TorchDispatchMode):
    """Counts the numbers read off tensors, each of which would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


def test_steps_read_nothing_off_the_device() -> None:
    images = DeviceImages(make_images(), CPU, resident=True)
    counts = []
    for batch_size in (1, 10):
        # On the CPU adam counts its steps in tensors, so it cannot show the point.
        config = make_config(
            training__batch_size=batch_size, training__accumulate=1, optimizer__name="sgd"
        )
        learner = build_learner(config, CPU, steps_per_epoch=10)
        with Reads() as reads:
            train_epoch(learner, images, SPLIT.train, config, 1)
            validate(learner.evaluated, images, SPLIT.validation, config, 1)
        counts.append(reads.count)
    assert counts[0] == counts[1]


def test_a_batch_of_one_image_that_batch_norm_cannot_take_is_said_with_the_setting() -> None:
    config = make_config(model__architecture="unet", model__base_width=2, training__batch_size=1)
    config.data.image_size = 16
    learner = build_learner(config, CPU, steps_per_epoch=10)
    images = DeviceImages(make_images(), CPU)
    with pytest.raises(ValueError, match=r"unet has batch norm .* training\.batch_size to at"):
        train_epoch(learner, images, SPLIT.train, config, 1)
