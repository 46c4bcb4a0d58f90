from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busi_tune.data.phantom import write_phantom

WriteSample = Callable[..., Path]


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom set of 24 images, read only."""
    root = tmp_path_factory.mktemp("phantom") / "set"
    write_phantom(root, num_images=24, seed=1)
    return root


@pytest.fixture
def busi_root(tmp_path: Path) -> Path:
    """BUSI's layout, two small images a class."""
    root = tmp_path / "busi"
    for label in ("benign", "malignant", "normal"):
        for number in (1, 2):
            write_sample(root / label, f"{label} ({number})", lesion=label != "normal")
    return root


def write_sample(folder: Path, name: str, lesion: bool = True) -> Path:
    """Write a random 24 x 32 image and its mask; the image's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name) + sum(name.encode()))
    image = rng.integers(0, 256, (24, 32), dtype=np.uint8)
    mask = np.zeros((24, 32), dtype=bool)
    mask[8:16, 8:20] = lesion
    Image.fromarray(image).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return folder / f"{name}.png"
