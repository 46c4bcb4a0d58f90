"""Join or start Ray, and check the request against what there is."""

import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from busi_tune.command_line import ClusterError
from busi_tune.config_jobs import ResourcesConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What each training takes, resolved against the cluster."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    max_concurrent: int
    num_nodes: int
    wait_seconds: float
    """How long the workers of a training may take to find their place."""


@contextlib.contextmanager
def connected() -> Iterator[bool]:
    """Join the cluster of RAY_ADDRESS or of `ray start` on this machine, else start a local one.

    Gives whether a cluster was joined.

    A local cluster asks for a token, shows its dashboard on 127.0.0.1 and ends with this block.

    Raises:
        ClusterError: the cluster cannot be reached or started.
    """
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS") or (current.exists() and current.read_text().strip())
    # Ray puts a handler of its own, which would end the process without a word.
    on_terminate = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            _knock(address)
            context = ray.init(address=address, **quiet)
        else:
            context = ray.init(
                address="local", include_dashboard=True, dashboard_host="127.0.0.1", **quiet
            )
    except (OSError, RuntimeError) as error:
        if not address:
            raise ClusterError(f"cannot start Ray on this machine: {error}") from error
        source = "RAY_ADDRESS" if os.environ.get("RAY_ADDRESS") else str(current)
        raise ClusterError(
            f"cannot join Ray at {address}, named by {source}: {error}. Start that cluster (its "
            f"token belongs in ~/.ray/auth_token), or remove {source} to start one on this machine"
        ) from error
    signal.signal(signal.SIGTERM, on_terminate)
    verb = "joined" if address else "started on this machine"
    logger.info("Ray %s; dashboard: http://%s", verb, context.dashboard_url)
    try:
        yield bool(address)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def resolve_request(resources: ResourcesConfig, joined: bool) -> Request:
    """Check that the cluster has what a training asks for, and see how many fit at a time.

    The nodes of a joined cluster may still be on their way, so it is given `wait_seconds`.

    Raises:
        ClusterError: not even one training fits; says what was asked and what there is.
    """
    deadline = time.monotonic() + resources.wait_seconds
    said = False
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = resources.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
        workers = sum(workers_on(node, resources.cpus_per_worker, gpus) for node in nodes)
        fitting = workers // resources.num_workers
        if fitting:
            break
        shortage = _shortage(resources, gpus, nodes)
        if not joined or time.monotonic() >= deadline:
            raise ClusterError(shortage)
        if not said:
            logger.info("%s; waiting up to %g s", shortage, resources.wait_seconds)
            said = True
        time.sleep(1)
    concurrent = min(fitting, resources.max_concurrent or fitting)
    return Request(
        num_workers=resources.num_workers,
        cpus_per_worker=resources.cpus_per_worker,
        gpus_per_worker=gpus,
        max_concurrent=concurrent,
        num_nodes=len(nodes),
        wait_seconds=resources.wait_seconds,
    )


def workers_on(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers of so many CPUs and GPUs fit on a node with these resources."""
    fitting = math.floor(node.get("CPU", 0.0) / cpus + 1e-6)
    if gpus >= 1:
        return min(fitting, math.floor(node.get("GPU", 0.0) / gpus + 1e-6))
    if gpus > 0:
        return min(fitting, int(node.get("GPU", 0.0)) * math.floor(1 / gpus + 1e-6))
    return fitting


def _shortage(resources: ResourcesConfig, gpus: float, nodes: list[dict[str, float]]) -> str:
    has = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
    return (
        f"a training asks for {resources.num_workers} worker(s) of {resources.cpus_per_worker:g} "
        f"CPU(s) and {gpus:g} GPU(s), but the cluster's {len(nodes)} node(s) have {has}: lower "
        "resources.num_workers, resources.cpus_per_worker or resources.gpus_per_worker"
    )
