"""levels.csv of a made-up run whose networks are too sure by a known temperature."""

from pathlib import Path

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.calibration import probabilities

SCALE = 1000
NORMAL = 50_000
"""Pixels of normal images, all at level 0."""


def write_levels(run_dir: Path, temperatures: dict[str, float]) -> None:
    """Write the levels of every training of the named models.

    Of each level but the ends there are 1000 pixels of tumour images, as many of them lesion as a
    network calibrated at its temperature would have; repeats and folds add 0.1 each to it.
    """
    folds = pd.read_csv(run_dir / run_directory.FOLDS)
    tables = []
    for _, row in folds[folds["model"].isin(list(temperatures))].iterrows():
        temperature = temperatures[row["model"]] + 0.1 * row["fold"] + 0.1 * row["repeat"]
        tumour = np.full(256, SCALE)
        tumour[[0, -1]] = 0
        lesion = (tumour * probabilities(temperature)).round().astype(int)
        normal = np.where(np.arange(256) == 0, NORMAL, 0)
        levels = {
            "level": np.arange(256), "pixels": tumour + normal, "pixels_tumour": tumour,
            "lesion_pixels": lesion,
        }  # fmt: skip
        for part in ("validation", "test"):
            identity = {name: row[name] for name in ("model", "repeat", "fold", "key")}
            tables.append(pd.DataFrame({**identity, "part": part, **levels}))
    pd.concat(tables).to_csv(run_dir / run_directory.LEVELS, index=False)
