"""The images that a run tested, each with its truth and what every model predicted.

Of a cross-validation these are the test images of the first repeat, of a search those of the closed
test part as the first refit of the winner and of each baseline sees them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.data.parallel import Progress, map_threads
from busi_tune.data.pixels import read_image
from busi_tune.evaluation.levels import threshold_level
from busi_tune.results.html.pictures import encode_picture, picture_size, trace_outline
from busi_tune.results.pages.winner import read_refitted
from busi_tune.results.read import KfoldRun, SearchRun


def find_thresholds(run: KfoldRun | SearchRun) -> dict[str, float | None]:
    """Return the models that tested images and at which probability each finds a lesion."""
    if isinstance(run, KfoldRun):
        return {model: run.setting(model, _THRESHOLD) for model in run.models}
    refitted = read_refitted(run)
    if refitted is None:
        return {}
    tested = set(_tested(run)["model"])
    own = refitted.refits.drop_duplicates("model").set_index("model")
    given = own.get("threshold", pd.Series(run.config.training.threshold, own.index))
    return {model: float(given[model]) for model in own.index if model in tested}


def describe_images(run: KfoldRun | SearchRun) -> list[dict[str, Any]]:
    """Return a row per tested image, the lowest mean Dice over models first.

    Returns:
        image, label, group and, in the order of `find_thresholds`, `dice`: None where a model has
        not tested the image.
    """
    first = _tested(run)
    if first.empty:
        return []
    dice = first.pivot_table(index="image", columns="model", values="dice", sort=False)
    dice = dice.reindex(columns=list(find_thresholds(run)))
    about = first.drop_duplicates("image").set_index("image")
    order = dice.mean(axis=1).sort_values(kind="stable").index
    return [
        {"image": image, "label": about.loc[image, "label"], "group": about.loc[image, "group"]}
        | {"dice": [None if np.isnan(value) else round(value, 4) for value in dice.loc[image]]}
        for image in order
    ]


def collect_pictures(
    run: KfoldRun | SearchRun,
    rows: list[dict[str, Any]],
    images: ImageSet,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Return what the browser draws for each row of `describe_images`.

    Returns:
        `size` (width, height), `picture` (WebP in base64), `truth` (an outline) and, model by
        model, `found`: an outline, None where there is no prediction.
    """
    positions = {name: position for position, name in enumerate(images.names)}
    folders = [
        (run.folder / run_directory.PREDICTIONS / model, threshold)
        for model, threshold in find_thresholds(run).items()
    ]

    def draw(row: dict[str, Any]) -> dict[str, Any]:
        position = positions[row["image"]]
        height, width = (int(side) for side in images.sizes[position])
        return {
            "size": picture_size(height, width)[::-1],
            "picture": encode_picture(images.content(position), height, width),
            "truth": trace_outline(images.original_mask(position)),
            "found": [_found(*place, row["image"]) for place in folders],
        }

    return list(map_threads(draw, rows, progress))


_THRESHOLD = "training.threshold"


def _tested(run: KfoldRun | SearchRun) -> pd.DataFrame:
    """The rows of the images that are shown: one per model and image."""
    if isinstance(run, KfoldRun):
        return run.images[run.images["repeat"] == 0]
    refitted = read_refitted(run)
    if refitted is None or refitted.images.empty:  # a run that is passed on may lack them
        return pd.DataFrame(columns=["model"])
    images = refitted.images
    return images[(images["part"] == "test") & (images["refit"] == 0)]


def _found(folder: Path, threshold: float | None, image: str) -> str | None:
    path = folder / f"{image}.png"
    if threshold is None or not path.exists():
        return None
    return trace_outline(read_image(path) >= threshold_level(threshold))
