"""Join or start Ray, and check the request against what there is."""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from busi_tune.capacity import workers_on
from busi_tune.command_line import ClusterError
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.orchestration.demand import Demand
from busi_tune.orchestration.token import make_token

logger = logging.getLogger(__name__)

LATER_NODES = (
    ", or wait longer for nodes to come with resources.wait_seconds (an autoscaler's log, monitor* "
    "on the head, says why none comes)"
)


@dataclass(frozen=True)
class Request:
    """What each training takes, resolved against the cluster."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    max_concurrent: int
    """Trainings that fit at a time when the run starts."""
    num_nodes: int
    wait_seconds: float
    """How long the workers of a training may take to find their place."""
    most: int = 0
    """Trainings at a time that the user allows; 0: as many as fit."""
    joined: bool = False
    """Whether the cluster was there before the run."""
    place: dict[str, float] = field(default_factory=dict)
    """What only the node has to which all workers are tied; empty: any node will do."""

    def count_fitting(self, nodes: list[dict[str, float]]) -> int:
        """Return how many trainings fit on nodes with these resources."""
        cpus, gpus = self.cpus_per_worker, self.gpus_per_worker
        allowed = [node for node in nodes if self.place.keys() <= node.keys()]
        return sum(workers_on(node, cpus, gpus) for node in allowed) // self.num_workers

    def tied_to_this_node(self) -> "Request":
        """Return the request for trainings whose folders no other node sees."""
        return replace(self, place={f"node:{ray.util.get_node_ip_address()}": 0.001})

    def limit(self, number: int) -> int:
        """Return how many of so many trainings may run at a time."""
        return min(number, self.most or number)


@contextlib.contextmanager
def connected(name: str = "") -> Iterator[bool]:
    """Join the cluster of RAY_ADDRESS or of `ray start` on this machine, else start a local one.

    Gives whether a cluster was joined.

    A local cluster asks for a token, shows its dashboard on 127.0.0.1 and ends with this block.
    Within another such block it is that block's cluster, and stays joined.

    Args:
        name: of the job in Ray's dashboard.

    Raises:
        ClusterError: the cluster cannot be reached or started.
    """
    if ray.is_initialized():
        yield True
        return
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS") or (current.exists() and current.read_text().strip())
    # Ray puts a handler of its own, which would end the process without a word.
    on_terminate = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    quiet["job_config"] = JobConfig(metadata={"job_name": name} if name else {})
    try:
        if address:
            _knock(address)
            context = ray.init(address=address, **quiet)
        else:
            if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
                raise PermissionError("RAY_AUTH_MODE would leave it open to everyone; unset it")
            make_token()
            context = _start(quiet)
    except Exception as error:
        if not address:
            raise ClusterError(f"cannot start Ray on this machine: {error}") from error
        source = "RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else str(current)
        raise ClusterError(
            f"cannot join Ray at {address}, named by {source}: {error}. Start that cluster (its "
            f"token belongs in ~/.ray/auth_token), or remove {source} to start one on this machine"
        ) from error
    signal.signal(signal.SIGTERM, on_terminate)
    verb = "joined" if address else "started on this machine"
    board = context.dashboard_url
    logger.info("Ray %s; %s", verb, f"dashboard: http://{board}" if board else "no dashboard")
    if address and os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        logger.warning("the cluster asks for no token: whoever reaches it can run code on it")
    try:
        yield bool(address)
    finally:
        ray.shutdown()


def _start(settings: dict[str, Any]) -> Any:
    """Start a cluster on this machine; once more where a part of it took too long.

    What that part was leaves stays until this process ends.
    """
    local: dict[str, Any] = {
        "address": "local",
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
    }
    try:
        return ray.init(**local, **settings)
    except Exception as error:
        if type(error) is not Exception:  # Ray raises a bare one for what was too slow
            raise
        said = str(error).strip().partition("\n")[0]
        logger.warning("Ray did not start: %s; it is started once more", said)
        ray.shutdown()
        return ray.init(**local, **settings)


def _knock(address: str) -> None:
    """Fail at once where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def resolve_request(resources: ResourcesConfig, joined: bool, wanted: int = 1) -> Request:
    """Check that the cluster has what a training asks for, and see how many fit at a time.

    The nodes of a joined cluster may still be on their way, so it is given `wait_seconds`, and an
    autoscaler is shown what is wanted. GPUs that no node has yet must be asked for by number.

    Args:
        resources: what a training asks for.
        joined: whether the cluster was there before the run.
        wanted: trainings to come.

    Raises:
        ClusterError: not even one training fits; says what was asked and what there is.
    """
    deadline = time.monotonic() + resources.wait_seconds
    demand: Demand | None = None
    while True:
        nodes = living_nodes()
        request = _request_of(resources, joined, nodes)
        fitting = request.count_fitting(nodes)
        if fitting:
            break
        shortage = describe_shortage(request, nodes)
        if not joined or time.monotonic() >= deadline:
            raise ClusterError(shortage)
        if demand is None:
            logger.info("%s; waiting up to %g s", shortage, resources.wait_seconds)
            demand = Demand(request.cpus_per_worker, request.gpus_per_worker)
        demand.ask(request.num_workers * request.limit(wanted))
        time.sleep(1)
    return replace(request, max_concurrent=request.limit(fitting))


def living_nodes(without: Collection[str] = ()) -> list[dict[str, float]]:
    """Return the resources of the nodes that are there, less those with one of these ids."""
    return [n["Resources"] for n in ray.nodes() if n["Alive"] and n["NodeID"] not in without]


def _request_of(resources: ResourcesConfig, joined: bool, nodes: list[dict[str, float]]) -> Request:
    gpus = resources.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
    return Request(
        num_workers=resources.num_workers,
        cpus_per_worker=resources.cpus_per_worker,
        gpus_per_worker=gpus,
        max_concurrent=0,
        num_nodes=len(nodes),
        wait_seconds=resources.wait_seconds,
        most=resources.max_concurrent,
        joined=joined,
    )


def describe_shortage(request: Request, nodes: list[dict[str, float]]) -> str:
    """Set what a training asks for beside what the nodes have."""
    has = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
    return (
        f"a training asks for {request.num_workers} worker(s) of {request.cpus_per_worker:g} "
        f"CPU(s) and {request.gpus_per_worker:g} GPU(s), but the cluster's {len(nodes)} node(s) "
        f"have {has}: lower resources.num_workers, resources.cpus_per_worker or "
        f"resources.gpus_per_worker{LATER_NODES if request.joined else ''}"
    )
