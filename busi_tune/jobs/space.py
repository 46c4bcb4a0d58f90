"""Whether every configuration that a search space allows can be trained, told by trying them."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import optuna

from busi_tune.command_line import Options
from busi_tune.config import Config
from busi_tune.search_space import Dimension, compile_space, is_active, sample
from busi_tune.settings import check_config, override

logger = logging.getLogger(__name__)

MOST_NETWORKS = 2000
LEAST_SAMPLES = 200
MANY_NETWORKS = 50
"""Whose check takes long enough to be said."""


def read_space(options: Options) -> tuple[list[Dimension], dict[str, Config]]:
    """Compile the search space and draw an example of each architecture and encoder.

    Raises:
        ValueError: a mistake in the space; names the file that it comes from.
    """
    config = options.config
    _warn_of_idle_pruner(config)
    try:
        space = compile_space(config.search.space)
        _refuse_losses_of_their_own(config)
        return space, check_space(space, config)
    except ValueError as error:
        source = f"{options.space_source}: " if options.space_source else ""
        raise ValueError(f"{source}{error}") from error


def _refuse_losses_of_their_own(config: Config) -> None:
    weights = [name for name in config.search.space if name.startswith("loss.")]
    if weights and config.training.monitor == "val_loss":
        raise ValueError(
            f"search.space has {', '.join(weights)}, and by training.monitor val_loss each trial "
            "would be ranked by a loss of its own: set training.monitor to val_dice"
        )


def _warn_of_idle_pruner(config: Config) -> None:
    search, epochs = config.search, config.training.epochs
    counts_epochs = search.pruner != "none" and search.rung_unit == "epochs"
    if counts_epochs and "training.epochs" not in search.space and search.min_epochs >= epochs:
        logger.warning(
            "search.pruner %s will stop no trial: search.min_epochs %d is not below "
            "training.epochs %d",
            search.pruner,
            search.min_epochs,
            epochs,
        )


def check_space(space: list[Dimension], config: Config) -> dict[str, Config]:
    """Refuse a space that allows what no training could run with, by trying what it allows.

    Every combination of the choices that make a network and its image size is tried, each with a
    draw of all other settings; where there are more than `MOST_NETWORKS`, as many draws at random.

    Returns:
        An example of each architecture and encoder.

    Raises:
        ValueError: a rule that a sample breaks, or a network that cannot be built.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    checked: set[tuple[object, ...]] = set()
    examples: dict[str, Config] = {}
    every = _networks(_choices_of_networks(space), {})
    networks = list(itertools.islice(every, MOST_NETWORKS + 1))
    if len(networks) > MOST_NETWORKS:
        logger.info(
            "search.space allows more than %d networks: as many are checked, drawn at random",
            MOST_NETWORKS,
        )
        networks = [{}] * MOST_NETWORKS
    elif len(networks) > MANY_NETWORKS:
        logger.info("checking the %d networks that search.space allows", len(networks))
    for network in [*networks, *({} for _ in range(LEAST_SAMPLES - len(networks)))]:
        study.enqueue_trial(network)
        settings = sample(space, study.ask())
        resolved = override(config, settings)
        try:
            check_config(resolved)
            _check_network(resolved, checked)
        except ValueError as error:
            raise ValueError(f"search.space allows {settings}, but: {error}") from error
        model = resolved.model
        has_encoder = model.architecture not in ("unet", "attention_unet", "report_cnn")
        encoder = f" {model.encoder}" * has_encoder
        examples.setdefault(f"{model.architecture}{encoder}", resolved)
    return examples


def _choices_of_networks(space: list[Dimension]) -> list[Dimension]:
    """Return the choices of model settings and sizes, and those on which they depend."""
    wanted: set[str] = set()
    for dimension in reversed(space):
        if dimension.name.startswith(("model.", "data.image_size")) or dimension.name in wanted:
            wanted |= {dimension.name, *(name for name, _ in dimension.when)}
    return [dimension for dimension in space if dimension.choices and dimension.name in wanted]


def _networks(choices: Sequence[Dimension], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the choices that follow these values."""
    if not choices:
        yield values
        return
    first, *others = choices
    for choice in first.choices if is_active(first, values) else ():
        yield from _networks(others, values | {first.name: choice})
    if not is_active(first, values):
        yield from _networks(others, values)


def _check_network(config: Config, checked: set[tuple[object, ...]]) -> None:
    """Check a network at one size, its encoder at every size, and once that its weights are had."""
    from busi_tune.models import check_model

    model, size = config.model, config.data.image_size
    # Whether there is dropout decides what goes together, its probability does not.
    dropout = 0.5 * (model.decoder_dropout > 0)
    scratch = replace(model, encoder_weights="none", dropout=0.0, decoder_dropout=dropout)
    # The encoder's weights are loaded once for all decoders; fcn has torchvision's.
    weights = (model.architecture == "fcn", model.encoder, model.encoder_weights)
    networks = {(repr(scratch),), (model.architecture, model.encoder, size)}
    if weights not in checked:
        check_model(model, size)
    elif not networks <= checked:
        check_model(scratch, size)
    checked |= {weights, *networks}
