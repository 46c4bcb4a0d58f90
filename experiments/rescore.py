"""Score the trainings of a finished cross-validation again with today's code, without training.

python experiments/rescore.py RUN [--data_root BUSI]

For a run made before a column, a metric or the operating point existed: the best epoch of every
finished training is loaded from its checkpoint and evaluated on its validation part and then on
its test part, as at the end of a training. images.csv, thresholds.csv, logits.csv, the maps and the
operating point in result.json of each training's folder are written anew, then the run's own tables
and figures. Weights, epochs and folds stay as they are; a run that was cut short may be rescored
again.

Refused before anything is changed: images other than the run's (data hash), and a training whose
folder, checkpoint and result do not belong together (settings, epoch). What was measured before
must come out again: the largest change of an image's Dice is printed, 0 on the machine and
versions that made the run.
"""

import argparse
import logging
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from busi_tune import run_directory
from busi_tune.command_line import BAD_INPUT, start_logging
from busi_tune.config import Config
from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.splits import Split, load_splits, name_parts
from busi_tune.flags import load_settings
from busi_tune.jobs.common import finish_run
from busi_tune.jobs.kfold import place_folds
from busi_tune.kfold_models import resolve_models
from busi_tune.models import build_model
from busi_tune.plan import Training, read_outcome
from busi_tune.run_directory import locked, read_json, write_json
from busi_tune.settings import from_dict, override, training_key
from busi_tune.training.checkpoint import load_checkpoint
from busi_tune.training.ranks import choose_device
from busi_tune.training.result import evaluate_parts, read_result

logger = logging.getLogger("rescore")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="folder of a kfold run")
    parser.add_argument(
        "--data_root", metavar="BUSI", help="folder of the images, if they were moved"
    )
    options = parser.parse_args(arguments)
    start_logging()
    try:
        return rescore(options.run_dir, options.data_root)
    except (ValueError, OSError) as error:
        print(f"rescore: error: {error}", file=sys.stderr)
        return BAD_INPUT


def rescore(run_dir: Path, data_root: str | None = None) -> int:
    """Rescore every finished training of a run and write its results again; an exit code.

    Raises:
        ValueError: the folder is no such run, or its images, folds and checkpoints do not fit.
    """
    config = read_config(run_dir)
    if data_root:
        config.data.root = data_root
    images = load_images(config.data)
    splits = load_splits(run_dir / run_directory.SPLITS, images)
    with locked(run_dir):
        trainings = place_folds(resolve_models(config), splits, images, run_dir)
        finished = [training for training in trainings if not read_outcome(training.folder).failed]
        if not finished:
            raise ValueError(
                f"{run_dir} has no finished training of these models, images and folds in "
                f"{run_directory.TRAININGS}: it was made with other settings, or by a version "
                "that named them otherwise"
            )
        for training in finished:
            load_best(training, images, splits[training.split])
        for number, training in enumerate(finished, start=1):
            change = rescore_training(training, images, splits[training.split])
            logger.info(
                "%d of %d: %s, Dice of an image changed by at most %.2g",
                *(number, len(finished), training.name, change),
            )
        shutil.rmtree(run_dir / run_directory.PREDICTIONS, ignore_errors=True)
        return finish_run(trainings, images, run_dir)


def read_config(run_dir: Path) -> Config:
    """Read the configuration of a plain cross-validation."""
    stored = run_dir / run_directory.CONFIG
    if not stored.exists():
        raise ValueError(f"{run_dir} is no run directory: it has no {run_directory.CONFIG}")
    job = read_json(run_dir / run_directory.ENVIRONMENT)["job"]
    config = override(Config(), load_settings(stored))
    if job != "kfold" or config.kfold.search:
        raise ValueError(f"{run_dir} must be a cross-validation without a nested search, got {job}")
    return config


def load_best(training: Training, images: ImageSet, split: Split) -> dict[str, Any]:
    """Read the weights of a training's best epoch and verify that they are this training's."""
    path = training.folder / run_directory.BEST_CHECKPOINT
    best = load_checkpoint(path, torch.device("cpu"))
    key = training_key(from_dict(best["config"]), images.data_hash, name_parts(split, images))
    result = read_result(training.folder)
    assert result is not None
    if (key, best["epoch"]) != (training.identity["key"], result.best_epoch):
        raise ValueError(
            f"{path} is epoch {best['epoch']} of training {key}, not epoch {result.best_epoch} of "
            f"{training.identity['key']}: restore the checkpoint"
        )
    weights: dict[str, Any] = best["model"]
    return weights


def rescore_training(training: Training, images: ImageSet, split: Split) -> float:
    """Evaluate a training's best epoch again; the largest change of an image's Dice."""
    config, folder = training.config, training.folder
    before = pd.read_csv(folder / run_directory.IMAGES)["dice"]
    device = choose_device(config.training.device)
    model = build_model(config.model).to(device)
    if config.training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    model.load_state_dict(load_best(training, images, split))
    with locked(folder):
        shown = DeviceImages(images, device)
        point = evaluate_parts(model, images, shown, split, config, folder).point
        result = read_result(folder)
        assert result is not None
        tuned = replace(
            result, tuned_threshold=point.threshold, tuned_component_px=point.component_px
        )
        write_json(folder / run_directory.RESULT, asdict(tuned))
    after = pd.read_csv(folder / run_directory.IMAGES)["dice"]
    return float((after - before).abs().max())


if __name__ == "__main__":
    sys.exit(main())
