"""What an autoscaler is shown."""

import pytest
import ray
from ray.autoscaler.v2.sdk import get_cluster_status

from busi_tune.orchestration.cluster import connected
from busi_tune.orchestration.demand import Demand
from tests.processes import wait_until

pytestmark = pytest.mark.ray

TOO_MANY_CPUS = 1000.0


def asked_for(address: str) -> int:
    """How many tasks of that many CPUs wait for a place, as Ray tells its autoscaler."""
    demands = get_cluster_status(address).resource_demands.ray_task_actor_demand
    shapes = [shape for demand in demands for shape in demand.bundles_by_count]
    return sum(shape.count for shape in shapes if shape.bundle.get("CPU") == TOO_MANY_CPUS)


def test_workers_without_a_place_are_shown_while_the_run_lasts(cluster: str) -> None:
    with connected():
        demand = Demand(TOO_MANY_CPUS, 0)
        for asked, shown in ((3, 3), (5, 5), (2, 5)):
            demand.ask(asked)
            wait_until(lambda n=shown: asked_for(cluster) == n, f"a demand of {shown}", 60)
    with connected():
        wait_until(lambda: asked_for(cluster) == 0, "the end of the demand", 60)


def test_what_finds_a_place_holds_nothing(cluster: str) -> None:
    with connected():
        free = ray.cluster_resources()["CPU"]
        # What an earlier test held is given back by and by.
        wait_until(lambda: ray.available_resources().get("CPU") == free, "a free cluster", 60)
        Demand(1, 0).ask(3)
        wait_until(lambda: ray.available_resources().get("CPU") == free, "the tasks' end", 60)
