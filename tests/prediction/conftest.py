"""A small cross-validation of files, trained in this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from busi_tune.command_line import Options
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.jobs.common import open_run
from busi_tune.jobs.kfold import make_all_folds, place_folds
from busi_tune.kfold_models import resolve_models
from busi_tune.plan import Training
from busi_tune.results.gather import gather_run
from busi_tune.settings import override
from busi_tune.training.loop import fit

MODELS = {
    "narrow": {"model.base_width": 2, "optimizer.lr": 1e-4},
    "wide": {"model.base_width": 3, "augment.vertical_flip": 0.0},
}


@dataclass(frozen=True)
class Trained:
    """A run and what it was made of."""

    folder: Path
    root: Path
    images: ImageSet
    trainings: list[Training]


def write_set(root: Path, num_images: int = 12) -> Path:
    """Write bright noise with dark lesions in BUSI's layout, each image of a size of its own."""
    generator = np.random.default_rng(0)
    for index in range(num_images):
        label = ("benign", "malignant", "normal")[index % 3]
        size = (24 + index, 40 - index)
        mask = np.zeros(size, dtype=bool)
        if label != "normal":
            mask[6:14, 4 + index : 14 + index] = True
        noise = generator.integers(90, 255, size) * np.where(mask, 0.2, 1.0)
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.astype(np.uint8)).save(root / label / f"{label} ({index}).png")
        Image.fromarray(mask).save(root / label / f"{label} ({index})_mask.png")
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Two models on two folds, an epoch each; read only."""
    folder = tmp_path_factory.mktemp("prediction")
    root = write_set(folder / "busi")
    settings = {
        "data.root": str(root), "data.image_size": 16, "data.resize": "letterbox",
        "data.groups": "none", "kfold.num_folds": 2, "kfold.models": MODELS, "training.epochs": 1,
        "training.batch_size": 3, "training.evaluation_batch_size": 4, "training.threshold": 0.45,
    }  # fmt: skip
    config = override(Config(), settings)
    images = load_images(config.data)
    run_dir = folder / "run"
    options = Options(config, run_dir, False, False, False, False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with open_run("kfold", options, images, lambda: make_all_folds(images, config)) as splits:
        trainings = place_folds(resolve_models(config), splits, images, run_dir)
        for training in trainings:
            fit(training.config, images, splits[training.split], training.folder)
    gather_run(run_dir, trainings)
    yield Trained(run_dir, root, images, trainings)
    torch.set_num_threads(threads)
