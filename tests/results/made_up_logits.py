"""logits.csv of a made-up run whose networks are too sure by a known temperature."""

from pathlib import Path

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.calibration import LOGITS, scale_probabilities

SCALE = 1000
NORMAL = 50_000
"""Pixels of normal images, all as sure as can be."""


def write_logits(run_dir: Path, temperatures: dict[str, float]) -> None:
    """Write the logits of every training of the named models.

    At each logit there are 1000 pixels of tumour images, as many of them lesion as a network
    calibrated at its temperature would have; folds and repeats add 0.1 each to it.
    """
    folds = pd.read_csv(run_dir / run_directory.FOLDS)
    tumour = np.full(len(LOGITS), SCALE)
    normal = np.where(np.arange(len(LOGITS)) == 0, NORMAL, 0)
    tables = []
    for _, row in folds[folds["model"].isin(list(temperatures))].iterrows():
        temperature = temperatures[row["model"]] + 0.1 * row["fold"] + 0.1 * row["repeat"]
        lesion = (tumour * scale_probabilities(temperature)).round().astype(int)
        identity = {name: row[name] for name in ("model", "repeat", "fold", "key")}
        columns = {
            "logit": LOGITS, "pixels": tumour + normal, "pixels_tumour": tumour,
            "lesion_pixels": lesion,
        }  # fmt: skip
        for part in ("validation", "test"):
            tables.append(pd.DataFrame({**identity, "part": part, **columns}))
    pd.concat(tables).to_csv(run_dir / run_directory.LOGITS, index=False)
