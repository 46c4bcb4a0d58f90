"""What a cross-validation compares: models, and the search inside each fold, as configurations."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from busi_tune.config import Config
from busi_tune.config_jobs import SearchConfig
from busi_tune.flags import (
    file_of_setting,
    given_settings,
    load_settings,
    source_of_setting,
    typed_override,
)
from busi_tune.named_files import locate_weights
from busi_tune.search_space import compile_space
from busi_tune.settings import dotted

# What a model may set for itself; the rest of a file such as best.yaml is the run's to decide.
MODEL_SECTIONS = ("augment", "model", "loss", "optimizer", "training")

NESTED = "nested_search"
"""The model's name of the winners of the searches inside the folds."""


def resolve_models(config: Config) -> dict[str, Config]:
    """Return the configuration of every model to compare; none beside a nested search alone.

    Raises:
        ValueError: a model's settings are wrong, or it wants images of another size.
    """
    if not config.kfold.models:
        return {} if config.kfold.search else {config.model.architecture: config}
    resolved = {}
    for name, settings in config.kfold.models.items():
        source = f"model {name}"
        if not is_model_name(name):
            raise ValueError(f"{source}: name folders by letters, digits, spaces and _ . + - only")
        if name == NESTED and config.kfold.search:
            raise ValueError(f"{source}: this is the name of kfold.search's winners; rename it")
        resolved[name] = _resolve(config, settings, source, MODEL_SECTIONS)
    return resolved


def take_images_of_models(config: Config, flags: Sequence[str]) -> Config:
    """Compare models at the size for which they were made, where nothing else names one.

    Files that name different sizes are refused later, by their names.
    """
    for name in ("data.image_size", "data.resize"):
        made_for = {settings.get(name) for settings in config.kfold.models.values()} - {None}
        if len(made_for) == 1 and not source_of_setting(name, flags):
            config = typed_override(config, {name: made_for.pop()}, "--models")
    return config


def is_model_name(name: str) -> bool:
    """Whether a model may have this name, which folders and files have too."""
    return bool(re.fullmatch(r"[\w.+ -]+", name)) and not name.startswith(".")


def load_search(config: Config, flags: Sequence[str]) -> str:
    """Put the content of the file that `kfold.search` names in its place.

    The path is relative to where it was given: the current folder, or that of a `--config` file.
    A setting that is also given as a flag is the flag's.

    Returns:
        What to name in an error: the file, or the setting where it named none.

    Raises:
        ValueError: the file cannot be read or names an unknown setting.
    """
    if not isinstance(config.kfold.search, str):
        return "kfold.search"
    path = file_of_setting("kfold.search", config.kfold.search, flags)
    content, given = locate_weights(load_settings(path)), given_settings(flags)
    config.kfold.search = {name: value for name, value in content.items() if name not in given}
    return str(path)


_OF_A_SEARCH_ALONE = ("budget", "target", "inner_folds", "objectives", "trackers")


def resolve_search(config: Config, source: str = "kfold.search") -> Config | None:
    """Return the configuration of the search inside each fold; None where there is none.

    Raises:
        ValueError: its settings are wrong, or its values could not be set against test folds.
    """
    if not config.kfold.search:
        return None
    resolved = _resolve(config, config.kfold.search, source, (*MODEL_SECTIONS, "search"))
    if "search.space" not in search_settings(config):
        raise ValueError(f"{source}: search.space is missing; name the settings to search")
    if resolved.training.monitor == "val_loss":
        raise ValueError(
            f"{source}: training.monitor is val_loss, which is not measured on test folds; search "
            "by val_dice or val_dice_tumour"
        )
    alone = SearchConfig()
    for name in _OF_A_SEARCH_ALONE:
        if getattr(resolved.search, name) != getattr(alone, name):
            raise ValueError(
                f"{source}: search.{name} is of a search alone; inside every fold there are "
                "search.num_trials trials, each on the fold's validation part: leave it out"
            )
    if "training.threshold" in resolved.search.space:
        raise ValueError(
            f"{source}: search.space, training.threshold: all folds of a model are counted at one "
            "threshold; set it under training (one tuned on the validation part is reported beside)"
        )
    try:
        compile_space(resolved.search.space)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return resolved


def search_settings(config: Config) -> dict[str, Any]:
    """Return the settings of `kfold.search` by their dotted names; empty where there is none."""
    assert not isinstance(config.kfold.search, str)
    return dotted(config.kfold.search)


def _resolve(config: Config, settings: Any, source: str, sections: Sequence[str]) -> Config:
    if not isinstance(settings, Mapping):
        raise ValueError(f"{source}: name the settings that differ, not {settings}")
    try:
        flat = dotted(settings)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    size = flat.get("data.image_size", config.data.image_size)
    if size != config.data.image_size:
        raise ValueError(
            f"{source} was made for images of {size} pixels, the run has "
            f"{config.data.image_size}: compare all models at one --data.image_size"
        )
    resize = flat.get("data.resize", config.data.resize)
    if resize != config.data.resize:
        raise ValueError(
            f"{source} was made for images of data.resize {resize}, the run has "
            f"{config.data.resize}: compare all models at one --data.resize"
        )
    own = {
        field: value
        for field, value in flat.items()
        if field.split(".")[0] in sections or field == "data.chosen_on"
    }
    return typed_override(config, own, source)
