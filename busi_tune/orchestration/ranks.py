"""How the workers of one training find each other."""

import os
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig


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
