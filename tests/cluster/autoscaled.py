"""A cluster that begins without any worker and whose autoscaler starts them on this machine."""

import contextlib
import json
from collections.abc import Iterator

from tests.cluster.nodes import OBJECT_STORE_BYTES, Cluster, Network

HEAD, WORKER = "ray.head.default", "worker"


def autoscaling_config(address: str, most_workers: int) -> dict[str, object]:
    """Describe workers of one CPU to Ray's stand-in for a cloud, which starts raylets here."""
    resources = {"CPU": 1, "object_store_memory": OBJECT_STORE_BYTES}
    return {
        "cluster_name": "autoscaled",
        "max_workers": most_workers,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 10.0,
        "provider": {"type": "fake_multinode", "gcs_address": address, "launch_multiple": True},
        "available_node_types": {
            HEAD: {"resources": {}, "node_config": {}, "max_workers": 0},
            WORKER: {
                "resources": resources,
                "node_config": {},
                "min_workers": 0,
                "max_workers": most_workers,
            },
        },
        "head_node_type": HEAD,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


@contextlib.contextmanager
def run_autoscaled(most_workers: int) -> Iterator[Cluster]:
    """Run a head without CPUs whose autoscaler may start so many workers."""
    network = Network()
    try:
        with Cluster(network) as cluster:
            config = cluster.folder / "autoscaling.json"
            config.write_text(json.dumps(autoscaling_config(cluster.address, most_workers)))
            cluster.environment |= {
                "RAY_FAKE_CLUSTER": "1",
                "RAY_enable_autoscaler_v2": "0",
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            }
            cluster.start_head(0, f"--autoscaling-config={config}")
            yield cluster
    finally:
        network.remove()
