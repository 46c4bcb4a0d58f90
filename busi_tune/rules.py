"""What the settings of a training and its place may be, told without torch and Ray."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from busi_tune.config import Config
from busi_tune.remote.address import find_fault

_AT_LEAST = {
    "data.image_size": 8,
    "data.phantom_images": 20,
    "model.base_width": 1,
    "training.epochs": 1,
    "training.max_seconds": 0,
    "training.batch_size": 1,
    "training.accumulate": 1,
    "training.evaluation_batch_size": 1,
    "training.patience": 0,
    "training.clip_norm": 0,
    "optimizer.weight_decay": 0,
    "optimizer.warmup_epochs": 0,
    "optimizer.encoder_lr_factor": 0,
    "loss.bce": 0,
    "loss.dice": 0,
    "loss.batch_dice": 0,
    "loss.focal": 0,
    "loss.tversky": 0,
    "loss.jaccard": 0,
    "loss.lovasz": 0,
    "loss.boundary": 0,
    "loss.focal_gamma": 0,
    "optimizer.plateau_patience": 1,
    "augment.strength": 0,
    "augment.brightness": 0,
    "augment.contrast": 0,
    "augment.rotation": 0,
    "augment.scale": 0,
    "augment.gamma": 0,
    "augment.speckle": 0,
    "augment.blur": 0,
    "search.num_trials": 1,
    "search.min_epochs": 1,
    "search.reduction_factor": 2,
    "search.inner_folds": 1,
    "search.refit": 0,
    "search.refit_seeds": 1,
    "kfold.num_folds": 2,
    "kfold.num_repeats": 1,
    "resources.num_workers": 1,
    "resources.max_concurrent": 0,
    "resources.max_failures": 0,
    "resources.wait_seconds": 0,
    "seed": 0,
}


_BELOW_ONE = (
    "model.dropout", "model.decoder_dropout", "training.ema_decay", "optimizer.momentum",
    "augment.elastic", "augment.cutout",
)  # fmt: skip
_NO_WEIGHTS = {"focal_gamma", "tversky_alpha"}


def rules_of_one_setting(values: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    """Yield every rule of a setting by itself, and whether it holds."""
    for name, low in _AT_LEAST.items():
        yield f"{name} must be at least {low}, not {values[name]}", values[name] >= low
    for name in ("horizontal_flip", "vertical_flip", "lesion_crop"):
        value = values[f"augment.{name}"]
        yield f"augment.{name} is a probability from 0 to 1, not {value}", 0 <= value <= 1
    for name in ("augment.crop_scale", "augment.crop_ratio"):
        yield f"{name} must be above 0 and at most 1, not {values[name]}", 0 < values[name] <= 1
    for name in _BELOW_ONE:
        yield f"{name} must be from 0 to below 1, not {values[name]}", 0 <= values[name] < 1
    for name in ("optimizer.lr", "resources.cpus_per_worker"):
        yield f"{name} must be above 0, not {values[name]}", values[name] > 0
    for name in ("training.threshold", "loss.tversky_alpha"):
        yield f"{name} must be between 0 and 1, not {values[name]}", 0 < values[name] < 1
    storage = values["storage"]
    fault = find_fault(storage)
    yield fault, not fault
    gpus = values["resources.gpus_per_worker"]
    yield f"resources.gpus_per_worker must be at least 0, not {gpus}", gpus is None or gpus >= 0


def rules_of_several_settings(config: Config) -> Iterable[tuple[str, bool]]:
    """Yield every rule between settings, and whether it holds."""
    warmup, epochs = config.optimizer.warmup_epochs, config.training.epochs
    yield (
        f"optimizer.warmup_epochs {warmup:g} must be shorter than training.epochs {epochs}",
        warmup < epochs,
    )
    yield (
        "optimizer.schedule plateau follows the validation part, and data.split all has none: "
        "take another schedule",
        config.optimizer.schedule != "plateau" or config.data.split != "all",
    )
    weights = [value for name, value in asdict(config.loss).items() if name not in _NO_WEIGHTS]
    yield "all loss weights are 0: give loss.bce or loss.dice a weight", any(weights)
    workers, batch = config.resources.num_workers, config.training.batch_size
    yield (
        f"training.batch_size {batch} leaves some of {workers} workers without an image: "
        f"use at least {workers}",
        batch >= workers,
    )
    yield from _rules_of_devices(config)


def _rules_of_devices(config: Config) -> Iterable[tuple[str, bool]]:
    workers = config.resources.num_workers
    gpus, device = config.resources.gpus_per_worker, config.training.device
    yield (
        "training.device is cuda, but resources.gpus_per_worker is 0: give the workers a GPU, or "
        "train on cpu",
        device != "cuda" or gpus != 0,
    )
    yield (
        "training.sync_batchnorm works on GPUs only, but training.device is cpu: switch it off",
        device != "cpu" or not config.training.sync_batchnorm,
    )
    yield (
        f"training.device is cpu, but resources.gpus_per_worker is {gpus}: set it to 0",
        device != "cpu" or not gpus,
    )
    yield (
        f"resources.gpus_per_worker {gpus}: the {workers} workers of a training need a GPU each, "
        "which nccl does not let them share; use 1, or resources.num_workers 1",
        workers == 1 or not gpus or gpus >= 1,
    )
