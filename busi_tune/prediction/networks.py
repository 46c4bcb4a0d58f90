"""Trained networks, brought back from their weights, and what they make of a batch of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from busi_tune.config import Config
from busi_tune.models import restore_model
from busi_tune.settings import override
from busi_tune.training.checkpoint import load_checkpoint
from busi_tune.training.epoch import autocast
from busi_tune.training.ranks import choose_device

CONFIG_KEY = "config"
"""Of the metadata of a weights file: the configuration as YAML."""

Flip = tuple[int, ...]
"""Dimensions along which a batch is flipped; none leaves it."""


@dataclass(frozen=True)
class Network:
    """A trained network and the configuration that it was trained by."""

    model: nn.Module
    config: Config


@dataclass(frozen=True)
class Networks:
    """Networks whose probabilities are averaged; they take images of one size."""

    members: Mapping[str, Network]
    device: torch.device

    @property
    def config(self) -> Config:
        """The configuration of the first; the others' differ in seeds alone, but where searched."""
        return next(iter(self.members.values())).config

    @torch.inference_mode()
    def predict(self, squares: Tensor, use_flips: bool) -> Tensor:
        """Compute the probabilities of each network by itself.

        Args:
            squares: grey images (B, S, S) at training size, uint8.
            use_flips: average over the flips of training.

        Returns:
            float32 (K, B, 1, S, S) on the device.
        """
        images = squares.to(self.device)[:, None].float() / 255
        return torch.stack([
            _predict(network, images, find_flips(network.config) if use_flips else [()])
            for network in self.members.values()
        ])  # fmt: skip


def _predict(network: Network, images: Tensor, flips: list[Flip]) -> Tensor:
    total = torch.zeros_like(images)
    with autocast(images.device, network.config):
        for flip in flips:
            logits = network.model(torch.flip(images, flip) if flip else images)
            probabilities = torch.sigmoid(logits.float())
            total += torch.flip(probabilities, flip) if flip else probabilities
    return total / len(flips)


def find_flips(config: Config) -> list[Flip]:
    """Return the flips that the augmentation of training had, none of them first.

    A network need not give an upside-down image the same lesion if it has never seen one.
    """
    augment = config.augment
    used = [
        dimension
        for dimension, probability in ((-1, augment.horizontal_flip), (-2, augment.vertical_flip))
        if augment.enabled and probability > 0
    ]
    kept = product(*([False, True] for _ in used))
    return [tuple(d for d, flips in zip(used, chosen, strict=True) if flips) for chosen in kept]


def load_networks(weights: Mapping[str, Path], device: str = "auto") -> Networks:
    """Bring networks back from checkpoints or files of an export.

    Args:
        weights: the file of each network.
        device: auto, cpu or cuda.

    Raises:
        ValueError: a file is damaged or of another network, or they take images of several sizes.
    """
    place = choose_device(device)
    members = {name: _load_network(path, place) for name, path in weights.items()}
    shapes = {(m.config.data.image_size, m.config.data.resize) for m in members.values()}
    if len(shapes) > 1:
        sizes = "; ".join(
            f"{name}: {member.config.data.image_size}, {member.config.data.resize}"
            for name, member in members.items()
        )
        raise ValueError(
            "only networks that take images of one size can be averaged, but a search gave each a "
            f"size of its own ({sizes}): take another model of the run by --model, or train one "
            "configuration on all folds"
        )
    return Networks(members, place)


def _load_network(path: Path, device: torch.device) -> Network:
    config, weights = read_weights(path, device)
    try:
        model = restore_model(config.model, weights).to(device).eval()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if config.training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return Network(model, config)


def read_weights(path: Path, device: torch.device) -> tuple[Config, dict[str, Tensor]]:
    """Read a network's configuration and weights; nothing in the file is executed.

    Raises:
        ValueError: the file is damaged, or its configuration is of a newer version.
    """
    if path.suffix == ".safetensors":
        return _read_exported(path, device)
    state = load_checkpoint(path, device)
    if not {"config", "model"} <= set(state):
        raise ValueError(f"{path} must hold config and model, got {', '.join(map(str, state))}")
    return _read_config(path, state["config"]), state["model"]


def _read_exported(path: Path, device: torch.device) -> tuple[Config, dict[str, Tensor]]:
    import yaml
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; copy it again") from error
    if CONFIG_KEY not in metadata:
        raise ValueError(f"{path} is no export of busi_tune: its metadata has no {CONFIG_KEY}")
    try:
        content = yaml.safe_load(metadata[CONFIG_KEY])
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: its {CONFIG_KEY} is no YAML of plain values: {error}") from error
    return _read_config(path, content), weights


def _read_config(path: Path, content: Any) -> Config:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: its configuration must be a mapping, got {content!r:.80}")
    try:
        return override(Config(), content)
    except ValueError as error:
        raise ValueError(f"{path} was written by another version of busi_tune: {error}") from error
