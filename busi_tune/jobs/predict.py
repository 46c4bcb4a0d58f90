"""Predictions of a run's networks on a folder of images, scored where it has masks."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from busi_tune.data.busi import quote
from busi_tune.data.micro_batches import MicroBatches
from busi_tune.data.phases import Phases
from busi_tune.data.resizing import find_box
from busi_tune.evaluation.evaluate import original_levels
from busi_tune.evaluation.levels import threshold_level
from busi_tune.evaluation.operating_point import Levels, Mask
from busi_tune.jobs.console import print_rows
from busi_tune.prediction.inputs import Grey, Inputs, find_inputs, find_seen
from busi_tune.prediction.networks import Networks, find_flips, load_networks
from busi_tune.prediction.outputs import (
    COLUMNS,
    DISAGREEMENT,
    WARNING,
    describe_image,
    write_image,
)
from busi_tune.prediction.scores import score_image, write_scores
from busi_tune.prediction.sources import Source, find_source, read_trained
from busi_tune.results.pages.tables import format_estimate
from busi_tune.run_directory import write_atomic

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    run: Path
    images: Path
    out: Path
    model: str | None = None
    threshold: float | None = None
    """Probability from which a pixel is lesion; None takes the run's training.threshold."""
    flips: bool = False
    skip_bad: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Predicted:
    """What the networks made of an image."""

    name: str
    grey: Grey
    levels: Levels
    """The averaged map, (H, W)."""
    lesion: Mask
    members: list[Mask]
    """The mask of each network by itself."""


def predict_folder(request: Request) -> None:
    """Predict every image of a folder and write what was found; see `busi_tune.predict`.

    Raises:
        ValueError: the folder for the results exists, there is no such run or model, or images
            are bad, all of which are listed; nothing has been written.
    """
    refuse_existing(request.out)
    source = find_source(request.run, request.model)
    networks = load_networks(source.weights, request.device)
    logger.info(
        "%s (%s): %d network(s), %s",
        *(source.model, source.choice, len(source.weights), ", ".join(source.weights)),
    )
    if request.flips and len(find_flips(networks.config)) == 1:
        raise ValueError(
            "--flips averages over the flips of training, and these networks were trained without "
            "any (augment.horizontal_flip, augment.vertical_flip): leave it out"
        )
    with Phases() as phases:
        inputs = find_inputs(request.images, networks.config.data, request.skip_bad, phases)
        seen = warn_of_seen(inputs, source, networks)
        write_predictions(request, source, networks, inputs, seen, phases)
    logger.info("predictions: %s", request.out)


def refuse_existing(out: Path) -> None:
    """Keep results out of a folder that is there already.

    Raises:
        ValueError: it is.
    """
    if out.exists():
        raise ValueError(f"{out} exists already: name another --out")


def warn_of_seen(inputs: Inputs, source: Source, networks: Networks) -> str:
    """Warn of images that the networks were trained on; return a sentence, empty without any."""
    data, trained = networks.config.data, read_trained(source.folder)
    seen, by_content = find_seen(inputs, trained, data)
    if not seen:
        return ""
    if by_content:
        told = "are among those that the networks were trained on, which flatters the predictions"
    else:
        told = "have the name of an image that the networks were trained on: if it is the same, "
        told += "that flatters the predictions"
    sentence = f"{len(seen)} of these {len(inputs.paths)} images {told}."
    logger.warning(
        "%s A kfold run's predictions/ holds those of the fold that had not seen an image: %s",
        *(sentence, quote(seen)),
    )
    return sentence


def write_predictions(
    request: Request, source: Source, networks: Networks, inputs: Inputs, seen: str, phases: Phases
) -> None:
    """Write the files of each image, predictions.csv and, where there are masks, the scores."""
    threshold = request.threshold or networks.config.training.threshold
    rows, scores = [], []
    predictions = run_networks(networks, inputs, threshold, request.flips)
    for index, found in enumerate(predictions):
        truth = inputs.known.original_mask(index) if inputs.known else None
        write_image(request.out, found.name, found.grey, found.levels, found.lesion, truth)
        rows.append(describe_image(found.name, found.levels, found.lesion, found.members))
        if inputs.known:
            scores.append(score_image(inputs.known, index, found.lesion))
        phases("predict", index + 1, len(inputs.paths))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_atomic(request.out / "predictions.csv", table.to_csv(index=False))
    doubtful = table.loc[table["warning"] == WARNING, "image"].tolist()
    if doubtful:
        logger.warning(
            "the networks disagree on %d of %d images (mean pairwise Dice below %g): %s",
            *(len(doubtful), len(table), DISAGREEMENT, quote(doubtful)),
        )
    if scores:
        context = describe_masks(request, source, networks, threshold)
        show_scores(write_scores(request.out, scores, " ".join(filter(None, [context, seen]))))


def run_networks(
    networks: Networks, inputs: Inputs, threshold: float, use_flips: bool
) -> Iterator[Predicted]:
    """Predict image after image, in batches of `training.evaluation_batch_size`."""
    config, level = networks.config, threshold_level(threshold)
    parts = MicroBatches("prediction")
    for batch in inputs.read(config.training.evaluation_batch_size, config.data):
        names, greys, squares = zip(*batch, strict=True)
        images = torch.from_numpy(np.stack(squares))

        def predict(images: Tensor = images) -> Tensor:
            found = [networks.predict(part, use_flips) for part in parts.split(images)]
            return torch.cat(found, dim=1)

        probabilities = parts.run(predict, len(images))
        for index, (name, grey) in enumerate(zip(names, greys, strict=True)):
            height, width = grey.shape
            box = find_box(height, width, config.data.image_size, config.data.resize)
            of_image = probabilities[:, index]
            levels = original_levels(of_image.mean(dim=0), box, grey.shape)
            members = [original_levels(own, box, grey.shape) >= level for own in of_image]
            yield Predicted(name, grey, levels, levels >= level, members)


def describe_masks(request: Request, source: Source, networks: Networks, threshold: float) -> str:
    """Say for a caption whose predictions these are and how their masks were made."""
    number = len(networks.members)
    averaged = f", the average of {number} networks" if number > 1 else ""
    flips = f" and of {len(find_flips(networks.config))} flips" if request.flips else ""
    return (
        f"Predictions of {source.model}{averaged}{flips} on the images of {request.images.name}, "
        f"threshold {threshold:g}."
    )


def show_scores(table: pd.DataFrame) -> None:
    """Print the means with their intervals."""
    scored = table[(table["images"] != "normal") & (table["num_images"] > 0)]
    print_rows(
        [
            {"images": str(row["images"]), "n": f"{row['num_images']}"}
            | {
                label: format_estimate(row, name)
                for name, label in (("dice", "Dice"), ("iou", "IoU"), ("nsd", "NSD"))
            }
            for _, row in scored.iterrows()
        ]
    )
