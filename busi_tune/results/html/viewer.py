"""The images of a cross-validation, each with its truth and what every model predicted."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.data.parallel import Progress, map_threads
from busi_tune.evaluation.levels import threshold_level
from busi_tune.results.html.pictures import encode_picture, picture_size, trace_outline
from busi_tune.results.read import KfoldRun


def describe_images(run: KfoldRun) -> list[dict[str, Any]]:
    """Return a row per test image of the first repeat, the lowest mean Dice over models first.

    Returns:
        image, label, group and, in the order of the run's models, `dice`: None where a model has
        not tested the image.
    """
    first = run.images[run.images["repeat"] == 0]
    dice = first.pivot_table(index="image", columns="model", values="dice", sort=False)
    dice = dice.reindex(columns=run.models)
    about = first.drop_duplicates("image").set_index("image")
    order = dice.mean(axis=1).sort_values(kind="stable").index
    return [
        {"image": image, "label": about.loc[image, "label"], "group": about.loc[image, "group"]}
        | {"dice": [None if np.isnan(value) else round(value, 4) for value in dice.loc[image]]}
        for image in order
    ]


def collect_pictures(
    run: KfoldRun, rows: list[dict[str, Any]], images: ImageSet, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Return what the browser draws for each row of `describe_images`.

    Returns:
        `size` (width, height), `picture` (WebP in base64), `truth` (an outline) and, model by
        model, `found`: an outline, None where there is no prediction.
    """
    positions = {name: position for position, name in enumerate(images.names)}
    folders = [
        (run.folder / run_directory.PREDICTIONS / model, run.setting(model, _THRESHOLD))
        for model in run.models
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


def _found(folder: Path, threshold: float | None, image: str) -> str | None:
    path = folder / f"{image}.png"
    if threshold is None or not path.exists():
        return None
    with Image.open(path) as opened:
        return trace_outline(np.asarray(opened) >= threshold_level(threshold))
