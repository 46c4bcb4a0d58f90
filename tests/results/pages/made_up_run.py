"""A cross-validation with made-up scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.results.read import KfoldRun

NUM_IMAGES = 60


def build_run(
    folder: Path,
    levels: dict[str, float],
    *,
    num_folds: int = 5,
    num_repeats: int = 1,
    noise: float = 0.02,
    spread: float = 0.0,
) -> KfoldRun:
    """Make up the scores of models of some levels; every sixth image is normal.

    Args:
        folder: for the manifest of the splits.
        levels: mean Dice of each model.
        num_folds, num_repeats: of the run.
        noise: standard deviation of an image's score.
        spread: standard deviation of a training's level.
    """
    generator = np.random.default_rng(0)
    names = np.array([f"image {index}" for index in range(NUM_IMAGES)])
    splits, folds, images = {}, [], []
    for repeat in range(num_repeats):
        for fold, test in enumerate(np.array_split(generator.permutation(NUM_IMAGES), num_folds)):
            train = np.setdiff1d(np.arange(NUM_IMAGES), test)
            splits[f"repeat-{repeat}/fold-{fold}"] = {
                "train": list(names[train]), "validation": [], "test": list(names[test]),
            }  # fmt: skip
            for model, level in levels.items():
                identity: dict[str, Any] = {
                    "model": model,
                    "repeat": repeat,
                    "fold": fold,
                    "chosen_here": False,
                }
                folds.append({**identity, "epochs": 12, "seconds": 100.0})
                shift = spread * generator.normal()
                dice = level + shift + noise * generator.normal(size=len(test))
                rows = pd.DataFrame({"image": names[test], "group": [str(i // 2) for i in test]})
                has_lesion = test % 6 != 0
                images.append(rows.assign(**identity, dice=dice, has_lesion=has_lesion))
    (folder / run_directory.SPLITS).write_text(json.dumps({"splits": splits}))
    return KfoldRun(folder, Config(), pd.DataFrame(folds), pd.DataFrame(), pd.concat(images))


def only_row(table: pd.DataFrame) -> Any:
    assert len(table) == 1
    return table.iloc[0]
