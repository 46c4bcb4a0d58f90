"""One training on a hold-out split."""

import logging
from collections.abc import Mapping

from busi_tune import run_directory
from busi_tune.command_line import DONE, Options
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split, make_holdout
from busi_tune.full_disk import find_full_disk
from busi_tune.jobs.common import (
    check_models,
    finish_run,
    is_chosen_here,
    load_run_images,
    open_run,
    place_training,
    run_on_cluster,
)
from busi_tune.jobs.dry_run import show_plan
from busi_tune.jobs.forecast import Part
from busi_tune.plan import ListPlan, Training, read_outcome, record_failure

logger = logging.getLogger(__name__)

SPLIT = "holdout"


def run_train(options: Options) -> int:
    """Train and test one configuration."""
    config = options.config
    name = config.model.architecture
    check_models({name: config})
    images = load_run_images(options, "train")

    def make_splits() -> dict[str, Split]:
        return {SPLIT: make_holdout(images.labels, images.groups, config.seed)}

    if options.dry_run:
        show_plan([Part({name: config}, 1)], images, make_splits()[SPLIT], config, options.run_dir)
        return DONE
    with open_run("train", options, images, make_splits) as splits:
        identity = {
            "model": name,
            "repeat": 0,
            "fold": 0,
            "chosen_here": is_chosen_here(config, splits[SPLIT], images),
        }
        training = place_training(
            name, identity, config, SPLIT, splits[SPLIT], images, options.run_dir
        )
        if config.resources.num_workers > 1:
            run_on_cluster(ListPlan([training]), images, splits, config)
        elif read_outcome(training.folder).failed:
            train_here(training, images, splits[SPLIT])
        return finish_run([training], images, options.run_dir)


def train_here(training: Training, images: ImageSet, split: Split) -> None:
    """Train in this process; what an exception stops is recorded as on a cluster."""
    from busi_tune.training.loop import fit

    (training.folder / run_directory.FAILURE).unlink(missing_ok=True)
    try:
        fit(training.config, images, split, training.folder, log_epoch)
    except Exception as error:
        if find_full_disk(error):
            raise
        record_failure(training.folder, error)


def log_epoch(metrics: Mapping[str, float]) -> bool:
    """Say how an epoch went; never asks to stop."""
    logger.info(
        "epoch %d: train loss %.4f, val loss %.4f, val Dice %.4f",
        *(metrics[name] for name in ("epoch", "train_loss", "val_loss", "val_dice")),
    )
    return False
