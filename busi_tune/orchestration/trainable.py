"""One training on the cluster: `fit` in a Tune actor, or as the ranks of Ray Train's workers."""

import json
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import train, tune
from ray.train import ControllerError, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.tune.trainable.function_trainable import wrap_function

from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.data.cache import Form, ImageSet
from busi_tune.data.splits import Split
from busi_tune.full_disk import find_full_disk
from busi_tune.orchestration.cluster import Request
from busi_tune.orchestration.messages import DISK_FULL, STORAGE_LOST, telling
from busi_tune.orchestration.ranks import RanksConfig
from busi_tune.orchestration.reports import FirstRank, Tell, reports_to_tune
from busi_tune.orchestration.starts import note_start
from busi_tune.plan import Training
from busi_tune.remote.objects import StorageError
from busi_tune.remote.training import SupersededError
from busi_tune.remote.workplace import SharedFolder, StoredFolder, Workplace
from busi_tune.scratch import scratch_folder
from busi_tune.settings import changed_settings, override

Fit = Callable[..., Any]
Images = ImageSet | Mapping[Form, ImageSet]
"""The images of all trainings, or of each its own by their size and way of resizing."""

# How often Ray Train looks at its workers; its own 2 s would be most of a short training.
WORKER_POLL_SECONDS = "0.1"
# What a training has from its last report to its end, before the next takes its actor.
LAST_STEP_SECONDS = 60


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


def build_trainable(
    request: Request, images: Images, splits: Mapping[str, Split], fit: Fit | None = None
) -> Any:
    """Return the function that Tune runs for each training, with its resources.

    The images go to the object store once a form, whatever the number of trainings.

    Args:
        request: what each training takes from the cluster.
        images: the images of all trainings, or a set for each of their forms.
        splits: the splits by name.
        fit: stands in for `busi_tune.training.loop.fit`.
    """
    sets = [images] if isinstance(images, ImageSet) else images.values()
    stored = {each.form: ray.put(each) for each in sets}
    if request.num_workers == 1:
        function = tune.with_parameters(
            _train_in_actor, stored=stored, splits=dict(splits), fit=fit
        )
        each = {"CPU": request.cpus_per_worker, "GPU": request.gpus_per_worker} | request.place
        return _show_names(tune.with_resources(function, each))
    shared = ray.put((stored, dict(splits), fit))
    function = tune.with_parameters(_train_on_workers, request=request, shared=[shared])
    # The function only waits for its workers: a CPU of its own would be one that they lack.
    return _show_names(tune.with_resources(function, {"memory": 1}))


def _show_names(function: Any) -> Any:
    """Let an actor and its tasks bear the training's name in Ray's dashboard.

    Ray asks for the name once, so an actor that takes one training after the other has the first's.
    """

    class NamedTraining(wrap_function(function)):  # type: ignore[misc]
        __qualname__ = "Training"  # as the dashboard calls its actors

        def __repr__(self) -> str:
            return f"{self.config['name']} and later ones"

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(LAST_STEP_SECONDS)
            if not super().reset_config(new_config):
                # Tune would fail the next trial without telling the searcher, which waits for it.
                raise RuntimeError(f"{new_config['name']} could not follow on another training")
            return True

    return NamedTraining


def _train_in_actor(
    message: dict[str, Any], stored: Mapping[Form, Any], splits: dict[str, Split], fit: Fit | None
) -> None:
    with telling(tune.report):
        _run(message, stored, splits, fit, tune.report)


def _train_on_workers(message: dict[str, Any], request: Request, shared: list[Any]) -> None:
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = WORKER_POLL_SECONDS
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(request.wait_seconds)
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # for the dashboard
    with reports_to_tune() as tell:
        try:
            with telling(tell):
                _train_and_tell(message, request, shared, tell)
        except StorageError as error:
            tell({STORAGE_LOST: str(error)})


def _train_and_tell(
    message: dict[str, Any], request: Request, shared: list[Any], tell: Tell
) -> None:
    workplace = _find_workplace(message)
    workplace.forget_failure()
    loop_config = {"message": message, "shared": shared, "tell": tell}
    try:
        # Only the process that this one starts writes there, never the ranks, which keep no
        # checkpoint through Ray Train; so it need not be a place that other nodes see.
        with scratch_folder("ray_train") as scratch:
            _build_trainer(loop_config, request, scratch).fit()
    except ControllerError as error:
        reason = _describe_broken_off(error, request)
        workplace.record_failure(reason, retry=True)
        raise reason from error
    except TrainingFailedError as error:
        if DISK_FULL in str(error):  # what led to a rank's exception does not come along with it
            tell({DISK_FULL: message["folder"]})
        elif STORAGE_LOST in str(error):
            tell({STORAGE_LOST: f"{message['address']} could not be reached by its workers"})
        elif not workplace.has_failed_for_good():
            raise  # a worker died: it is tried again


def _describe_broken_off(error: ControllerError, request: Request) -> ClusterError:
    failure = error.controller_failure
    if type(failure).__name__.startswith("WorkerGroupStartup"):
        return ClusterError(
            f"its {request.num_workers} workers did not start within {request.wait_seconds:g} s: "
            "something else holds their place in the cluster, or it lost nodes"
        )
    return ClusterError(f"Ray Train broke off: {type(failure).__name__}: {failure}")


def _build_trainer(loop_config: dict[str, Any], request: Request, scratch: Path) -> TorchTrainer:
    name = loop_config["message"]["name"].replace(" ", "-")
    return TorchTrainer(
        _train_as_rank,
        train_loop_config=loop_config,
        torch_config=RanksConfig(),
        scaling_config=train.ScalingConfig(
            num_workers=request.num_workers,
            use_gpu=request.gpus_per_worker > 0,
            resources_per_worker={"CPU": request.cpus_per_worker}
            | ({"GPU": request.gpus_per_worker} if request.gpus_per_worker else {})
            | request.place,
        ),
        run_config=train.RunConfig(
            # A name of its own each time: the training's folder is what a retry goes on from.
            name=f"{name}-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch),
            # Ray Train would look for a place for its workers for ever, without a word.
            failure_config=train.FailureConfig(
                max_failures=0,
                controller_failure_limit=0,  # type: ignore[call-arg]
            ),
            callbacks=[FirstRank(loop_config["tell"])],  # type: ignore[list-item]
        ),
    )


def _train_as_rank(config: dict[str, Any]) -> None:
    stored, splits, fit = ray.get(config["shared"][0])
    with telling(config["tell"]):
        _run(config["message"], stored, splits, fit, train.report)


def _run(
    message: dict[str, Any],
    stored: Mapping[Form, Any],
    splits: Mapping[str, Split],
    fit: Fit | None,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Run `fit` and leave its result or the reason of its failure in the training's folder.

    What an exception stops would stop it again, so only the death of a process is retried. A full
    disk or a lost storage is no failure of the training: it is left as it is and the driver told.
    """
    config = _read_settings(message)
    alone = config.resources.num_workers == 1
    images = _find_images(config, stored)
    workplace = _find_workplace(message)

    def on_epoch_end(metrics: dict[str, float]) -> bool:
        workplace.keep()
        report(dict(metrics))
        return workplace.is_asked_to_stop()

    try:
        if alone:
            workplace.forget_failure()
        folder = workplace.open(leads=alone or train.get_context().get_world_rank() == 0)
        workplace.show_place(*note_start(folder))
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


def _find_images(config: Config, stored: Mapping[Form, Any]) -> ImageSet:
    """Return the images in the training's form; a single set is that of all trainings."""
    own = (config.data.image_size, config.data.resize)
    images: ImageSet = ray.get(stored[own if len(stored) > 1 else next(iter(stored))])
    return images


def _find_workplace(message: dict[str, Any]) -> Workplace:
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
