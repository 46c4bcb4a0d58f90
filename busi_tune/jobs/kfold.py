"""The cross-validation: models x repeats x folds as one list of trainings."""

import re
from collections.abc import Mapping
from pathlib import Path

from busi_tune.command_line import DONE, Options
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split, make_folds
from busi_tune.flags import typed_override
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
from busi_tune.plan import ListPlan, Training
from busi_tune.results.gather import gather_run
from busi_tune.settings import dotted, override

# What a model may set for itself; the rest of a file such as best.yaml is the run's to decide.
MODEL_SECTIONS = ("augment", "model", "loss", "optimizer", "training")


def run_kfold(options: Options) -> int:
    """Train every model on every fold and write the results."""
    config = options.config
    models = resolve_models(config)
    check_models(models)
    images = load_run_images(options, "kfold")
    if options.dry_run:
        folds = make_all_folds(images, config)
        show_plan(models, len(models) * len(folds), images, next(iter(folds.values())))
        return DONE
    with open_run("kfold", options, images, lambda: make_all_folds(images, config)) as splits:
        trainings = place_folds(models, splits, images, options.run_dir)
        plan = ListPlan(trainings, lambda: gather_run(options.run_dir, trainings))
        run_on_cluster(plan, len(trainings), images, splits, config)
        return finish_run(trainings, images, options.run_dir)


def resolve_models(config: Config) -> dict[str, Config]:
    """Return the configuration of every model to compare.

    Raises:
        ValueError: a model's settings are wrong, or it wants images of another size.
    """
    if not config.kfold.models:
        return {config.model.architecture: config}
    resolved = {}
    for name, settings in config.kfold.models.items():
        source = f"model {name}"
        if not re.fullmatch(r"[\w.+ -]+", name) or name.startswith("."):
            raise ValueError(f"{source}: name folders by letters, digits, spaces and _ . + - only")
        if not isinstance(settings, Mapping):
            raise ValueError(f"{source}: name the settings that differ, not {settings}")
        flat = dotted(settings)
        size = flat.get("data.image_size", config.data.image_size)
        if size != config.data.image_size:
            raise ValueError(
                f"{source} was made for images of {size} pixels, the run has "
                f"{config.data.image_size}: compare all models at one --data.image_size"
            )
        own = {
            field: value
            for field, value in flat.items()
            if field.split(".")[0] in MODEL_SECTIONS or field == "data.chosen_on"
        }
        resolved[name] = typed_override(config, own, source)
    return resolved


def make_all_folds(images: ImageSet, config: Config) -> dict[str, Split]:
    """Draw the folds of every repeat, each from its own seed."""
    return {
        f"repeat-{repeat}/fold-{fold}": split
        for repeat in range(config.kfold.num_repeats)
        for fold, split in enumerate(
            make_folds(images.labels, images.groups, config.kfold.num_folds, config.seed + repeat)
        )
    }


def place_folds(
    models: Mapping[str, Config], splits: Mapping[str, Split], images: ImageSet, run_dir: Path
) -> list[Training]:
    """Make the grid repeats x folds x models: fold by fold, so that models compare early."""
    trainings = []
    for split_name, split in splits.items():
        repeat, fold = (int(part.rsplit("-", 1)[-1]) for part in split_name.split("/"))
        for model, config in models.items():
            identity = {
                "model": model,
                "repeat": repeat,
                "fold": fold,
                "chosen_here": is_chosen_here(config, split, images),
            }
            seeded = override(config, {"seed": config.seed + repeat})
            name = f"{model} fold {fold}" + (f" repeat {repeat}" if repeat else "")
            trainings.append(
                place_training(name, identity, seeded, split_name, split, images, run_dir)
            )
    return trainings
