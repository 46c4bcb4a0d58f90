"""Weights that leave the project: a folder with settings, protocol and a model card."""

import logging
import shutil
from pathlib import Path

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.jobs.predict import refuse_existing
from busi_tune.kfold_models import MODEL_SECTIONS
from busi_tune.prediction.card import write_card
from busi_tune.prediction.networks import CONFIG_KEY, Networks, load_networks
from busi_tune.prediction.onnx_model import check_onnx, write_onnx
from busi_tune.prediction.sources import WEIGHTS, Source, find_source
from busi_tune.settings import flatten, override, to_yaml

logger = logging.getLogger(__name__)

ONNX_FILE = "model.onnx"


def export_model(run: Path, out: Path, model: str | None, as_onnx: bool) -> None:
    """Write the networks of a model into a folder that appears whole or not at all.

    Args:
        run: the run directory.
        out: the folder to be.
        model: of several the one to take; None takes the run's leader.
        as_onnx: also as a model for ONNX Runtime.

    Raises:
        ValueError: the folder exists, the run is an export itself or lacks networks, or packages
            are missing.
        ExportError: the ONNX model does not do what the networks do.
    """
    refuse_existing(out)
    if as_onnx:
        check_onnx()
    source = find_source(run, model)
    if not (run / run_directory.ENVIRONMENT).exists():
        raise ValueError(f"--export takes a run directory, got {run}: it is an export already")
    networks = load_networks(source.weights, "cpu")
    logger.info(
        "exporting %s (%s): %d network(s)", source.model, source.choice, len(source.weights)
    )
    run_directory.create(out, lambda folder: write_export(folder, source, networks, as_onnx))
    logger.info("export: %s", out)


def write_export(folder: Path, source: Source, networks: Networks, as_onnx: bool) -> None:
    """Fill the folder of an export."""
    from safetensors.torch import save_file

    for name, member in networks.members.items():
        weights = {key: tensor.contiguous() for key, tensor in member.model.state_dict().items()}
        metadata = {"format": "pt", CONFIG_KEY: to_yaml(without_paths(member.config))}
        save_file(weights, folder / f"{name}{WEIGHTS}", metadata)
    (folder / run_directory.CONFIG).write_text(to_yaml(without_paths(networks.config)))
    for name in (run_directory.PROTOCOL, run_directory.SPLITS):
        if (source.folder / name).exists():
            shutil.copyfile(source.folder / name, folder / name)
    difference = None
    if as_onnx:
        difference = write_onnx(folder / ONNX_FILE, networks)
        logger.info("%s differs from torch by at most %.1e", ONNX_FILE, difference)
    write_card(folder, source, networks, difference)


def without_paths(config: Config) -> Config:
    """Return what the model is, without what is of one machine or of the run around it."""
    own = {
        name: value
        for name, value in flatten(config).items()
        if name.split(".")[0] in (*MODEL_SECTIONS, "data") or name in ("seed", _RANKS)
    }
    own |= {"data.root": None, "data.cache_dir": None}
    own |= {name: Path(own[name]).name for name in _FILES if Path(own[name]).is_absolute()}
    return override(Config(), own)


_RANKS = "resources.num_workers"
_FILES = ("data.groups", "model.encoder_weights")
