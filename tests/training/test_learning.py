"""The phantom set is worth searching on: settings decide whether a network learns it."""

from pathlib import Path

import numpy as np
import pytest

from busi_tune.config import Config, DataConfig
from busi_tune.data.cache import load_images
from busi_tune.data.splits import make_holdout
from busi_tune.settings import override
from busi_tune.training.loop import fit


@pytest.mark.parametrize(("lr", "learns"), [(3e-3, True), (1e-6, False)])
def test_a_small_unet_learns_the_phantom_set_unless_the_learning_rate_is_bad(
    tmp_path: Path, lr: float, learns: bool
) -> None:
    images = load_images(DataConfig(image_size=48, phantom_images=100))
    split = make_holdout(images.labels, images.groups, seed=0)
    split = split.__class__(split.train, split.validation, np.arange(0))
    config = override(
        Config(),
        {
            "model.base_width": 8,
            "optimizer.lr": lr,
            "augment.crop_scale": 0.5,
            "training.epochs": 8,
            "training.batch_size": 8,
            "training.monitor": "val_dice_tumour",
        },
    )
    result = fit(config, images, split, tmp_path)
    assert result.best_value is not None
    assert (result.best_value > 0.6) == learns, result.best_value
