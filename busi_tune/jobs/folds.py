"""A fold as a training: its name, its seed and what it is known by."""

from pathlib import Path

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split, read_split_key
from busi_tune.jobs.common import is_chosen_here, place_training
from busi_tune.plan import Training
from busi_tune.settings import override


def fold_label(split_name: str) -> str:
    """Return what people read for a fold: its repeat is named from the second on."""
    repeat, fold = read_split_key(split_name)
    return f"fold {fold}" + (f" repeat {repeat}" if repeat else "")


def seed_repeat(config: Config, split_name: str) -> Config:
    """Return the configuration with the seed of the fold's repeat."""
    return override(config, {"seed": config.seed + read_split_key(split_name)[0]})


def place_fold(
    model: str, config: Config, split_name: str, split: Split, images: ImageSet, run_dir: Path
) -> Training:
    """Make the training of a model, seeded for its repeat, on a fold."""
    repeat, fold = read_split_key(split_name)
    identity = {
        "model": model,
        "repeat": repeat,
        "fold": fold,
        "chosen_here": is_chosen_here(config, split, images),
    }
    name = f"{model} {fold_label(split_name)}"
    return place_training(name, identity, config, split_name, split, images, run_dir)
