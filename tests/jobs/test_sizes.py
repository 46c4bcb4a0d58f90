from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from busi_tune.config import Config
from busi_tune.data.cache import load_images
from busi_tune.jobs.common import images_at
from busi_tune.jobs.search import load_forms
from busi_tune.settings import override
from busi_tune.study.starts import read_baselines

CONFIG = override(Config(), {"data.phantom_images": 20, "data.image_size": 32})


def test_a_search_over_sizes_and_ways_has_the_same_images_in_each() -> None:
    space = {"data.image_size": [16, 64, 32], "data.resize": ["letterbox", "stretch"]}
    images = load_images(CONFIG.data)
    sets = load_forms(override(CONFIG, {"search.space": space}), images)
    ways = ("stretch", "letterbox")
    assert list(sets) == [(size, way) for size in (32, 16, 64) for way in ways]
    assert sets[32, "stretch"] is images
    assert not np.array_equal(sets[32, "letterbox"].images, images.images)
    for (size, way), each in sets.items():
        assert each.form == (size, way)
        assert each.images.shape == each.masks.shape == (20, size, size)
        assert (each.names, each.groups) == (images.names, images.groups)
        assert each.data_hash == images.data_hash
        assert np.array_equal(each.packed_masks, images.packed_masks)


def test_a_baseline_may_have_a_way_of_resizing_that_is_searched(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data.resize: letterbox\n")
    space = {"data.resize": ["stretch", "letterbox"]}
    config = override(CONFIG, {"search.baselines": [str(file)], "search.space": space})
    assert read_baselines(config)["a"].data.resize == "letterbox"


def test_images_that_have_changed_meanwhile_are_refused() -> None:
    images = replace(load_images(CONFIG.data), data_hash="of other files")
    assert images_at(CONFIG, images) is images
    with pytest.raises(ValueError, match="has changed while its images were decoded"):
        images_at(override(CONFIG, {"data.image_size": 16}), images)
