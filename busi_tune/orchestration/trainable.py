"""One training on the cluster: `fit` in a Tune actor, or as the ranks of Ray Train's workers."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import train, tune
from ray.train import ControllerError, TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.tune.trainable.function_trainable import wrap_function

from busi_tune.command_line import ClusterError
from busi_tune.data.cache import Form, ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import Request
from busi_tune.orchestration.messages import DISK_FULL, NO_PLACE, STORAGE_LOST, telling
from busi_tune.orchestration.ranks import TRAINING, RanksConfig
from busi_tune.orchestration.reports import FirstRank, Tell, reports_to_tune
from busi_tune.orchestration.waiting import describe_wait
from busi_tune.orchestration.worker import Fit, find_workplace, name_place, work
from busi_tune.remote.objects import StorageError
from busi_tune.scratch import scratch_folder

Images = ImageSet | Mapping[Form, ImageSet]
"""The images of all trainings, or of each its own by their size and way of resizing."""

# How often Ray Train looks at its workers; its own 2 s would be most of a short training.
WORKER_POLL_SECONDS = "0.1"
# What a training has from its last report to its end, before the next takes its actor.
LAST_STEP_SECONDS = 60


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
        work(message, stored, splits, fit, tune.report, tune.report)


def _train_on_workers(message: dict[str, Any], request: Request, shared: list[Any]) -> None:
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = WORKER_POLL_SECONDS
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(request.wait_seconds)
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # for the dashboard
    with reports_to_tune() as tell:
        tell(name_place())
        try:
            with telling(tell):
                _train_and_tell(message, request, shared, tell)
        except StorageError as error:
            tell({STORAGE_LOST: str(error)})


def _train_and_tell(
    message: dict[str, Any], request: Request, shared: list[Any], tell: Tell
) -> None:
    workplace = find_workplace(message)
    workplace.forget_failure()
    loop_config = {"message": message, "shared": shared, "tell": tell}
    try:
        # Only the process that this one starts writes there, never the ranks, which keep no
        # checkpoint through Ray Train; so it need not be a place that other nodes see.
        with scratch_folder("ray_train") as scratch:
            _build_trainer(loop_config, request, scratch).fit()
    except ControllerError as error:
        failure = error.controller_failure
        if type(failure).__name__ == "WorkerGroupStartupTimeoutError":
            tell({NO_PLACE: describe_wait(request.wait_seconds)})
            return
        reason = ClusterError(f"Ray Train broke off: {type(failure).__name__}: {failure}")
        workplace.record_failure(reason, retry=True)
        raise reason from error
    except TrainingFailedError as error:
        if DISK_FULL in str(error):  # what led to a rank's exception does not come along with it
            tell({DISK_FULL: message["folder"]})
        elif STORAGE_LOST in str(error):
            tell({STORAGE_LOST: f"{message['address']} could not be reached by its workers"})
        elif not workplace.has_failed_for_good():
            raise  # a worker died: it is tried again


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
            worker_runtime_env={"env_vars": {TRAINING: loop_config["message"]["name"]}},
        ),
    )


def _train_as_rank(config: dict[str, Any]) -> None:
    stored, splits, fit = ray.get(config["shared"][0])
    with telling(config["tell"]):
        work(config["message"], stored, splits, fit, train.report, config["tell"])
