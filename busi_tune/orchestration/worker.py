"""A training in its process on the cluster."""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import train

from busi_tune.config import Config
from busi_tune.data.cache import Form, ImageSet
from busi_tune.data.splits import Split
from busi_tune.full_disk import find_full_disk
from busi_tune.orchestration.messages import DISK_FULL, PLACE, STORAGE_LOST
from busi_tune.orchestration.starts import note_start
from busi_tune.plan import Training
from busi_tune.remote.objects import StorageError
from busi_tune.remote.training import SupersededError
from busi_tune.remote.workplace import SharedFolder, StoredFolder, Workplace
from busi_tune.settings import changed_settings, override

Fit = Callable[..., Any]


def to_message(training: Training, address: str = "") -> dict[str, Any]:
    """Put a training into what Tune carries: small, and free of classes of this project.

    Tune keeps several copies of it for every trial, so the settings are one string, without those
    of the jobs around a training and those at their defaults.

    Args:
        training: the training.
        address: of its folder in a storage; empty where all nodes see its folder.
    """
    settings = {
        name: value
        for name, value in changed_settings(training.config).items()
        if not name.startswith(("search.", "kfold."))
    }
    return {
        "name": training.name,
        "folder": str(training.folder),
        "address": address,
        "split": training.split,
        "settings": json.dumps(settings),
    }


def _read_settings(message: dict[str, Any]) -> Config:
    return override(Config(), json.loads(message["settings"]))


def work(
    message: dict[str, Any],
    stored: Mapping[Form, Any],
    splits: Mapping[str, Split],
    fit: Fit | None,
    report: Callable[[dict[str, Any]], None],
    tell: Callable[[dict[str, Any]], Any],
) -> None:
    """Run `fit` and leave its result or the reason of its failure in the training's folder.

    What an exception stops would stop it again, so only the death of a process is retried. A full
    disk or a lost storage is no failure of the training: it is left as it is and the driver told.
    """
    tell(place := name_place())
    config, workplace = _read_settings(message), find_workplace(message)
    images, alone = _find_images(config, stored), config.resources.num_workers == 1

    def on_epoch_end(metrics: dict[str, float]) -> bool:
        workplace.keep()
        report(dict(metrics))
        return workplace.is_asked_to_stop()

    try:
        if alone:
            workplace.forget_failure()
        folder = workplace.open(leads=alone or train.get_context().get_world_rank() == 0)
        note_start(folder, place[PLACE])
        try:
            run = fit or _real_fit(config)
            run(config, images, splits[message["split"]], folder, on_epoch_end)
            workplace.keep()
        except SupersededError:
            workplace.wait_for_end()
    except Exception as error:
        broken = _describe_breakdown(error, message)
        if broken:
            if not alone:
                raise RuntimeError(*broken) from error
            report(broken)
            return
        workplace.record_failure(error, not alone and _may_come_from_another_rank(error))
        if not alone:
            raise  # the other ranks wait for this one
    finally:
        workplace.close()


def name_place() -> dict[str, Any]:
    """Return the report that says on which node this process is."""
    return {PLACE: str(ray.util.get_node_ip_address())}


def _find_images(config: Config, stored: Mapping[Form, Any]) -> ImageSet:
    """Return the images in the training's form; a single set is that of all trainings."""
    own = (config.data.image_size, config.data.resize)
    images: ImageSet = ray.get(stored[own if len(stored) > 1 else next(iter(stored))])
    return images


def find_workplace(message: dict[str, Any]) -> Workplace:
    """Return where a training works: in its folder, or in one that is kept in a storage."""
    if not message["address"]:
        return SharedFolder(Path(message["folder"]))
    patience = _read_settings(message).resources.wait_seconds
    return StoredFolder(message["address"], patience)


def _describe_breakdown(error: Exception, message: dict[str, Any]) -> dict[str, str]:
    """Return what to report of an error that ends the run and not the training; {} of others."""
    if find_full_disk(error):
        return {DISK_FULL: message["folder"]}
    return {STORAGE_LOST: str(error)} if isinstance(error, StorageError) else {}


def _may_come_from_another_rank(error: Exception) -> bool:
    """A rank whose peer died fails with a RuntimeError of the collective."""
    import torch

    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)


def _real_fit(config: Config) -> Fit:
    import torch

    from busi_tune.training.loop import fit

    if ray.get_gpu_ids() and not torch.cuda.is_available():
        raise ValueError(
            f"torch cannot use the GPU that Ray gave this training on {socket.gethostname()}: its "
            f"CUDA {torch.version.cuda} needs a newer NVIDIA driver there, or the container has no "
            "GPU; mend that, or train on CPUs with resources.gpus_per_worker 0"
        )
    torch.set_num_threads(max(1, int(config.resources.cpus_per_worker)))
    return fit
