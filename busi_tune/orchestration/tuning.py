"""A plan run on the cluster by Tune."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError

from busi_tune.command_line import ClusterError
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import Request, connected, resolve_request
from busi_tune.orchestration.nodes import Nodes
from busi_tune.orchestration.quiet import Lines
from busi_tune.orchestration.searcher import Observer, PlanScheduler, PlanSearcher
from busi_tune.orchestration.trainable import Images, build_trainable
from busi_tune.orchestration.waiting import Waiting
from busi_tune.orchestration.worker import Fit
from busi_tune.plan import Plan
from busi_tune.remote.run import StoredRun
from busi_tune.scratch import scratch_folder

logger = logging.getLogger(__name__)


def run_plan(
    plan: Plan,
    images: Images,
    splits: Mapping[str, Split],
    resources: ResourcesConfig,
    observer: Observer,
    fit: Fit | None = None,
    shared: str | None = None,
    storage: StoredRun | None = None,
    name: str = "",
) -> None:
    """Run every open training of a plan on the cluster.

    Args:
        plan: what to train.
        images: the images of all trainings, or a set for each of their sizes.
        splits: the splits by name.
        resources: what each training takes.
        observer: who shows progress.
        fit: stands in for `busi_tune.training.loop.fit`.
        shared: a folder that all nodes see, where there are several.
        storage: the run's place in a storage, which stands for such a folder.
        name: of the job in Ray's dashboard.

    Raises:
        ClusterError: the cluster cannot run the trainings or was lost; what is finished stays.
    """
    if plan.num_open() == 0:
        return
    for library in ("ray.tune", "ray.train"):
        # What matters is said by the observer.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if shared:
        Path(shared).mkdir(parents=True, exist_ok=True)
    with (
        scratch_folder("tune", shared) as scratch,
        connected(name) as joined,
    ):
        try:
            request = resolve_request(resources, joined, plan.num_open())
            if request.num_nodes > 1 and not shared and storage is None:
                raise ClusterError(
                    f"the cluster has {request.num_nodes} nodes: name a folder that all of them "
                    "see with --storage FOLDER, or a bucket with --storage s3://BUCKET/PREFIX"
                )
            if joined and not shared and storage is None:
                # Others may join, and would not see the folders.
                request = request.tied_to_this_node()
            _announce(plan, request)
            trainable = build_trainable(request, images, splits, fit)
            searcher = PlanSearcher(plan, observer, resources.max_failures, Nodes(request), storage)
            _tune(plan, trainable, request, searcher, observer, scratch)
        except (RayError, TuneError) as error:
            said = str(error).strip() or type(error).__name__
            raise ClusterError(f"the run broke off: {said.splitlines()[-1]}") from error


def _announce(plan: Plan, request: Request) -> None:
    logger.info(
        "%d training(s) to go, up to %d at a time, each %d worker(s) of %g CPU(s), %g GPU(s)",
        plan.num_open(),
        request.max_concurrent,
        request.num_workers,
        request.cpus_per_worker,
        request.gpus_per_worker,
    )


def _tune(
    plan: Plan,
    trainable: Any,
    request: Request,
    searcher: PlanSearcher,
    observer: Observer,
    scratch: Path,
) -> None:
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=PlanScheduler(searcher, plan, observer),
            num_samples=-1,
            # The searcher knows how many; without a number Tune would start them one by one.
            max_concurrent_trials=sys.maxsize,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"{trial.config['name']}".replace(" ", "-"),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch),
            name="tune",
            verbose=0,
            callbacks=[Lines(), Waiting(request.wait_seconds)],
            failure_config=tune.FailureConfig(max_failures=0),  # the searcher tries again
        ),
    )
    try:
        tuner.fit()
    finally:
        if searcher.broken_by is not None:  # not as one error among those that Tune makes of it
            raise searcher.broken_by
