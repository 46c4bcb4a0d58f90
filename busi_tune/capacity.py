"""How many workers a machine has room for; no Ray."""

import math


def workers_on(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers of so many CPUs and GPUs fit on a node with these resources."""
    fitting = math.floor(node.get("CPU", 0.0) / cpus + 1e-6)
    if gpus >= 1:
        return min(fitting, math.floor(node.get("GPU", 0.0) / gpus + 1e-6))
    if gpus > 0:
        return min(fitting, int(node.get("GPU", 0.0)) * math.floor(1 / gpus + 1e-6))
    return fitting
