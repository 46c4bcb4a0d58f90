from dataclasses import replace

import numpy as np
import pytest

from busi_tune.config import Config
from busi_tune.data.cache import load_images
from busi_tune.jobs.common import images_at
from busi_tune.jobs.search import load_sizes
from busi_tune.settings import override

CONFIG = override(Config(), {"data.phantom_images": 20, "data.image_size": 32})


def test_a_search_over_sizes_has_the_same_images_at_each() -> None:
    space = {"data.image_size": [16, 64, 32]}
    images = load_images(CONFIG.data)
    sets = load_sizes(override(CONFIG, {"search.space": space}), images)
    assert list(sets) == [32, 16, 64]
    assert sets[32] is images
    for size, each in sets.items():
        assert each.images.shape == each.masks.shape == (20, size, size)
        assert (each.names, each.groups) == (images.names, images.groups)
        assert each.data_hash == images.data_hash
        assert np.array_equal(each.packed_masks, images.packed_masks)


def test_images_that_have_changed_meanwhile_are_refused() -> None:
    images = replace(load_images(CONFIG.data), data_hash="of other files")
    assert images_at(CONFIG, images) is images
    with pytest.raises(ValueError, match="has changed while its images were decoded"):
        images_at(override(CONFIG, {"data.image_size": 16}), images)
