from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from busi_tune.config import Config
from busi_tune.data.batches import DeviceImages
from busi_tune.training.result import evaluate_parts
from tests.training.small_training import CPU, SPLIT, build_plain, make_images


def test_the_operating_point_is_never_chosen_on_the_test_part(tmp_path: Path) -> None:
    images, config = make_images(), Config()
    model = build_plain(config.model)
    split = replace(SPLIT, validation=np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match="chosen on the validation part, which must have images"):
        evaluate_parts(model, images, DeviceImages(images, CPU), split, config, tmp_path)
    assert not list(tmp_path.iterdir())
