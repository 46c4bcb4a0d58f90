"""One training on a hold-out split, or on every image."""

import logging
from collections.abc import Mapping

from busi_tune import run_directory
from busi_tune.command_line import DONE, Options
from busi_tune.config import Config, TrainingConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.phases import Phases, format_duration
from busi_tune.data.splits import Split, make_holdout, take_all
from busi_tune.full_disk import find_full_disk
from busi_tune.jobs.common import (
    check_models,
    finish_run,
    is_chosen_here,
    load_run_images,
    open_run,
    open_storage,
    place_training,
    refuse_other_code,
    run_on_cluster,
    take_up,
)
from busi_tune.jobs.dry_run import show_plan
from busi_tune.jobs.forecast import Part
from busi_tune.plan import ListPlan, Training, read_outcome, record_failure
from busi_tune.remote.objects import StorageError
from busi_tune.remote.run import StoredRun
from busi_tune.training.history import fitting_epochs

logger = logging.getLogger(__name__)


def run_train(options: Options) -> int:
    """Train one configuration, and test it where the split has a test part."""
    config = options.config
    name, split_name = config.model.architecture, config.data.split
    check_split(config)
    check_models({name: config})
    storage = open_storage(options)
    images = load_run_images(options, "train")

    def make_splits() -> dict[str, Split]:
        if split_name == "all":
            return {split_name: take_all(len(images))}
        return {split_name: make_holdout(images.labels, images.groups, config.seed)}

    if options.dry_run:
        split = make_splits()[split_name]
        show_plan([Part({name: config}, 1)], images, split, config, options.run_dir)
        return DONE
    with open_run("train", options, images, make_splits, storage) as splits:
        split = splits[split_name]
        identity = {
            "model": name,
            "repeat": 0,
            "fold": 0,
            "chosen_here": is_chosen_here(config, split, images),
        }
        training = place_training(
            name, identity, config, split_name, split, images, options.run_dir
        )
        refuse_other_code(options.run_dir, [training])
        plan = ListPlan([training])
        take_up(options.run_dir, plan, config)
        if config.resources.num_workers > 1:
            run_on_cluster(plan, images, splits, config, options.run_dir.name, storage=storage)
        elif read_outcome(training.folder).failed:
            train_here(training, images, split, storage)
        return finish_run([training], images, options.run_dir)


def check_split(config: Config) -> None:
    """Say or refuse what cannot be done without a validation part.

    Raises:
        ValueError: the learning rate is to follow the monitor.
    """
    if config.data.split != "all":
        return
    if config.optimizer.schedule == "plateau":
        raise ValueError(
            "optimizer.schedule plateau follows training.monitor, which data.split all does not "
            "measure: there is no validation part; use another schedule"
        )
    logger.info(
        "data.split all: every image trains, the last of training.epochs %d is kept and nothing is "
        "scored%s; what to expect of it, a cross-validation of the same settings tells",
        config.training.epochs,
        "; training.patience has no effect" if config.training.patience else "",
    )


def train_here(
    training: Training, images: ImageSet, split: Split, storage: StoredRun | None = None
) -> None:
    """Train in this process; what an exception stops is recorded as on a cluster."""
    from busi_tune.training.loop import fit

    folder = training.folder
    (folder / run_directory.FAILURE).unlink(missing_ok=True)
    stored = storage.training(folder) if storage else None
    if stored:
        stored.claim()
        if not (folder / run_directory.LAST_CHECKPOINT).exists():
            stored.pull(folder)

    def on_epoch_end(metrics: Mapping[str, float]) -> bool:
        if stored:
            stored.push(folder)
        return log_epoch(metrics, training.config.training)

    try:
        with Phases() as progress:
            fit(training.config, images, split, folder, on_epoch_end, progress)
    except Exception as error:
        if find_full_disk(error) or isinstance(error, StorageError):
            raise
        record_failure(folder, error)
    else:
        if stored:
            stored.push(folder)


def log_epoch(metrics: Mapping[str, float], training: TrainingConfig) -> bool:
    """Say how an epoch went, of how many it is and what is left; never asks to stop."""
    shown = {"train loss": "train_loss", "val loss": "val_loss", "val Dice": "val_dice"}
    values = [f"{label} {metrics[name]:.4f}" for label, name in shown.items() if name in metrics]
    epoch, seconds = int(metrics["epoch"]), metrics["seconds"]
    planned = fitting_epochs(epoch, seconds, training)
    if epoch < planned:
        values.append(f"about {format_duration(seconds / epoch * (planned - epoch))} left")
    logger.info("epoch %d of %d: %s", epoch, planned, ", ".join(values))
    return False
