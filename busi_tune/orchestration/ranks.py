"""How the workers of one training find each other, and what they are called."""

import contextlib
import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig

TRAINING = "BUSI_TUNE_TRAINING"
"""Names a worker's training in its environment."""

# Ray Train has no setting for a worker's name, and may move what is used here: then it has none.
# What starts workers imports this file, for RanksConfig.
with contextlib.suppress(ImportError):
    from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker
    from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

    class TrainWorker(RayTrainWorker):
        """A worker that Ray's dashboard shows with the name of its training."""

        def __repr__(self) -> str:
            return f"worker of {os.environ.get(TRAINING, 'a training')}"

    WorkerGroup._worker_cls = TrainWorker


class RanksConfig(TorchConfig):
    """Ray's process group of torch, on the network that the nodes themselves use.

    gloo takes the address to which the host's own name resolves, and on many machines that is
    127.0.0.1: ranks on two nodes would never meet.
    """

    @property
    def backend_cls(self) -> Any:
        """The one of Ray, after the network has been named on every worker."""
        return _RanksBackend


class _RanksBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(name_network)
        super().on_start(worker_group, backend_config)


def name_network() -> None:
    """Make gloo use the network of the node's address in Ray; what a user has named is kept."""
    address = ray.util.get_node_ip_address()
    for name, places in psutil.net_if_addrs().items():
        if any(place.address == address for place in places):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
