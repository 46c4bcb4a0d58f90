"""The trainings of a run with their pixels by logit, and the temperature of each."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.calibration import Histogram, fit_temperature
from busi_tune.results.read import KfoldRun, read_table

SETS = {"tumour": "Tumour images", "all": "All images"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrated:
    """A training."""

    model: str
    temperature: float
    """Fitted on all images of the validation part."""
    test: Mapping[str, Histogram]
    """Of the test part, for each of `SETS` that has pixels; all images only where the run has
    normal ones."""


def read_calibrated(run: KfoldRun) -> list[Calibrated]:
    """Read logits.csv and fit the temperatures, in the order of the run's models.

    Trainings of earlier versions and those made elsewhere left no logits and are left out.
    """
    columns = ["model", "repeat", "fold", "part"]
    table = read_table(run.folder / run_directory.LOGITS, columns)
    found = []
    for (model, _, _), rows in table.groupby(["model", "repeat", "fold"], sort=True):
        parts = dict(list(rows.groupby("part")))
        if {"validation", "test"} <= set(parts):
            temperature = fit_temperature(_histograms(parts["validation"])["all"])
            test = _histograms(parts["test"])
            kept = {name: counts for name, counts in test.items() if counts.any()}
            found.append(Calibrated(str(model), temperature, kept))
    if not any(map(_has_normal_pixels, found)):
        found = [replace(each, test={"tumour": each.test["tumour"]}) for each in found]
    lacking = [model for model in run.models if model not in {each.model for each in found}]
    if lacking:
        logger.info("no calibration of %s: no pixels by logit were kept", ", ".join(lacking))
    return sorted(found, key=lambda each: run.models.index(each.model))


def _has_normal_pixels(training: Calibrated) -> bool:
    tumour = training.test.get("tumour")
    return tumour is None or not np.array_equal(training.test["all"], tumour)


def _histograms(rows: pd.DataFrame) -> dict[str, Histogram]:
    counts = rows.sort_values("logit")
    lesion = counts["lesion_pixels"].to_numpy(dtype=np.int64)
    columns = {"tumour": "pixels_tumour", "all": "pixels"}
    return {
        name: np.stack([counts[column].to_numpy(dtype=np.int64) - lesion, lesion], axis=1)
        for name, column in columns.items()
    }
