"""Averages of several models' out-of-fold maps: weights chosen on some folds, judged on another."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.data.parallel import Progress, map_threads
from busi_tune.data.pixels import read_image
from busi_tune.evaluation.counts import compute_metrics
from busi_tune.evaluation.levels import threshold_level
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.ensemble import Weights, select_greedily, select_single

STEP = 4
"""Every how many rows and columns weights are chosen by; judged is every pixel."""

Levels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """The out-of-fold maps of several models on the same images."""

    models: Sequence[str]
    folder: Path
    tests: pd.DataFrame
    """A row per image of the first repeat: image, fold, group, has_lesion."""
    images: ImageSet
    level: int
    """The lowest grey level that is lesion."""

    def read(self, name: str, model: str) -> Levels:
        """Read the map of an image (H, W)."""
        return read_image(self.folder / model / f"{name}.png")

    def truth(self, name: str) -> npt.NDArray[np.bool_]:
        """Return the mask of an image (H, W)."""
        return self.images.original_mask(self.images.names.index(name))

    def judge(self, name: str, weights: Weights) -> float:
        """Return the Dice of an image at weights, every pixel counted."""
        used = [(w, self.read(name, m)) for w, m in zip(weights, self.models, strict=True) if w]
        total = sum(weight * levels.astype(np.uint16) for weight, levels in used)
        lesion, truth = np.asarray(total >= self.level * sum(weights)), self.truth(name)
        tp, found, true = (lesion & truth).sum(), lesion.sum(), truth.sum()
        counts = np.array([[tp, found - tp, true - tp, 0]], dtype=np.int64)
        return float(compute_metrics(counts)["dice"][0])


@dataclass(frozen=True)
class Samples:
    """The maps at every `STEP`-th row and column, one image after the other."""

    maps: Levels
    """(M, P), of each model."""
    truth: npt.NDArray[np.bool_]
    """(P,)."""
    starts: npt.NDArray[np.int64]
    """(N,), where each image begins."""
    level: int
    known: dict[Weights, Floats] = field(default_factory=dict)

    def dice(self, weights: Weights) -> Floats:
        """Return the Dice of every image (N,) at weights; each is computed once."""
        if weights not in self.known:
            total = np.zeros(self.maps.shape[1], dtype=np.uint16)
            for weight, levels in zip(weights, self.maps, strict=True):
                if weight:
                    total += levels * np.uint16(weight)
            lesion = total >= self.level * sum(weights)
            tp, found, true = (
                np.add.reduceat(mask, self.starts, dtype=np.int64)
                for mask in (lesion & self.truth, lesion, self.truth)
            )
            counts = np.stack([tp, found - tp, true - tp, np.zeros_like(tp)], axis=1)
            self.known[weights] = compute_metrics(counts)["dice"]
        return self.known[weights]


def open_library(run: KfoldRun, images: ImageSet) -> Library | None:
    """Find the models that can be averaged; None, said, where there are fewer than two.

    Models must be cut at the same threshold; of several repeats the first is taken.
    """
    first = run.images[run.images["repeat"] == 0]
    models = run.trained
    if len(models) < 2 or first["fold"].nunique() < 2:
        return None
    thresholds = {run.setting(model, "training.threshold") for model in models}
    tests = first[first["model"].isin(models)].groupby("image", sort=False)
    rows = tests[["fold", "group", "has_lesion"]].first()[tests.size() == len(models)].reset_index()
    folder = run.folder / run_directory.PREDICTIONS
    missing = [m for m in models for n in rows["image"] if not (folder / m / f"{n}.png").exists()]
    reasons = {
        f"{folder / missing[0] if missing else ''} lacks maps": bool(missing),
        "the models differ in training.threshold": len(thresholds) > 1,
        "fewer than two folds have been tested by every model": rows["fold"].nunique() < 2,
    }
    if any(reasons.values()):
        logger.warning("no ensemble: %s", next(why for why, holds in reasons.items() if holds))
        return None
    return Library(models, folder, rows, images, threshold_level(thresholds.pop()))


def sample_maps(library: Library, progress: Progress | None = None) -> Samples:
    """Read every map once, thinned out; `progress` is called after each image."""

    def read(name: str) -> tuple[list[Levels], npt.NDArray[np.bool_]]:
        thin = (slice(None, None, STEP), slice(None, None, STEP))
        maps = [library.read(name, model)[thin].ravel() for model in library.models]
        return maps, library.truth(name)[thin].ravel()

    found = list(map_threads(read, library.tests["image"].tolist(), progress))
    maps = np.stack([np.concatenate(own) for own in zip(*(maps for maps, _ in found), strict=True)])
    starts = np.cumsum([0, *(truth.size for _, truth in found)], dtype=np.int64)[:-1]
    return Samples(maps, np.concatenate([truth for _, truth in found]), starts, library.level)


def choose_weights(
    library: Library, progress: Progress | None = None
) -> dict[int, tuple[Weights, Weights]]:
    """Choose, for every fold on the others, the weights of the ensemble and the best model."""
    samples, number = sample_maps(library, progress), len(library.models)
    folds = library.tests["fold"].to_numpy()
    choices = {}
    for fold in sorted(set(folds.tolist())):
        others = folds != fold

        def score(weights: Weights, others: npt.NDArray[np.bool_] = others) -> float:
            return float(samples.dice(weights)[others].mean())

        choices[fold] = select_greedily(score, number), select_single(score, number)
    return choices


def judge_choices(
    library: Library,
    choices: dict[int, tuple[Weights, Weights]],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score every image by what was chosen without it: columns ensemble, single, difference."""
    rows = list(library.tests.itertuples(index=False))

    def judge(row: Any) -> tuple[float, float]:
        ensemble, single = choices[row.fold]
        return library.judge(row.image, ensemble), library.judge(row.image, single)

    scores = np.array(list(map_threads(judge, rows, progress)))
    table = library.tests.assign(ensemble=scores[:, 0], single=scores[:, 1])
    return table.assign(difference=table["ensemble"] - table["single"])
