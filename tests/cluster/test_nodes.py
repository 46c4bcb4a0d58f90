"""Several nodes: some join a run, some are lost while they train.

experiments/faults/nodes.py loses nodes in more ways, and the head.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.autoscaled import run_autoscaled
from tests.cluster.broken_runs import lose_node, run_whole
from tests.cluster.nodes import Cluster, Node, run_cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and a node, which the tests of this file add to and take from."""
    with run_cluster(2) as cluster:
        yield cluster


@pytest.mark.parametrize("command", ["search", "kfold"])
def test_a_run_uses_a_node_that_joins_and_goes_on_without_it(
    cluster: Cluster, tmp_path: Path, command: str
) -> None:
    outcome, said = lose_node(command, Node.kill_raylet, cluster, tmp_path)
    assert outcome.is_whole, outcome
    assert outcome.places == 3, "head, node and the one that joined"
    assert outcome.moved == 1
    assert said.count("a node died, it goes on from its last epoch") == 1, said
    assert "3 node(s) now, up to 3 training(s) at a time" in said


def test_an_autoscaler_brings_the_nodes_of_a_run_that_finds_none(tmp_path: Path) -> None:
    with run_autoscaled(most_workers=2) as cluster:
        outcome, said = run_whole("kfold", cluster, tmp_path)
    assert outcome.is_whole, outcome
    assert "the cluster's 1 node(s) have 0 CPUs and 0 GPUs" in said
    # Both may be there before the first training is given out.
    assert "3 node(s) now, up to 2 training(s)" in said or "to go, up to 2 at a time" in said
