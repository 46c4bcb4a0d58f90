"""Nodes that come and go, as searcher and cluster see them; no Ray is started."""

import contextlib
import logging
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from busi_tune.command_line import ClusterError
from busi_tune.orchestration import nodes as nodes_module
from busi_tune.orchestration.cluster import Request
from busi_tune.orchestration.nodes import LOOK_SECONDS, Nodes
from busi_tune.plan import Training

Make = Callable[..., list[Training]]


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class NoDemand:
    """Notes what is asked for."""

    def __init__(self, cpus: float, gpus: float) -> None:
        self.asked: list[int] = []

    def ask(self, num_workers: int) -> None:
        self.asked.append(num_workers)


def node(name: str, cpus: float = 1, alive: bool = True, port: int = 1) -> dict[str, Any]:
    address = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
    resources = {"CPU": cpus, f"node:{name}": 1.0}
    return {"NodeID": name, "Alive": alive, "Resources": resources, **address}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The nodes that Ray tells of."""
    told: list[dict[str, Any]] = [node("first")]
    monkeypatch.setattr("ray.nodes", lambda: told)
    monkeypatch.setattr(nodes_module, "Demand", NoDemand)
    return told


def request(**settings: Any) -> Request:
    given = {"num_workers": 1, "max_concurrent": 1, "wait_seconds": 60.0, "joined": True}
    return Request(cpus_per_worker=1, gpus_per_worker=0, num_nodes=1, **given | settings)


@pytest.mark.parametrize(
    ("settings", "room", "asked"),
    [
        ({}, 3, 5),
        ({"most": 2}, 2, 0),
        ({"num_workers": 2}, 1, 14),
        ({"joined": False}, 3, None),
        ({"place": {"node:first": 0.001}}, 1, None),
    ],
)
def test_nodes_that_join_make_room_and_what_does_not_fit_is_shown_to_an_autoscaler(
    there: list[dict[str, Any]],
    clock: Clock,
    settings: dict[str, Any],
    room: int,
    asked: int | None,
) -> None:
    nodes = Nodes(request(**settings), clock)
    there += [node("second"), node("third"), node("gone", alive=False)]
    assert nodes.room(8) == 1, "it does not look all the time"
    clock.now = LOOK_SECONDS
    assert nodes.room(8) == room
    assert nodes.num_losses == 1
    assert vars(nodes)["_demand"].asked == ([] if asked is None else [asked])


def test_without_any_node_left_the_run_waits_and_then_says_so(
    there: list[dict[str, Any]], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    nodes = Nodes(request(), clock)
    there[0]["Alive"] = False
    clock.now = 59
    assert nodes.room(2) == 0
    assert "0 node(s) now, up to 0 training(s) at a time" in caplog.text
    there.append(node("new"))
    clock.now = 70
    assert nodes.room(2) == 1
    there.pop()
    clock.now = 129
    assert nodes.room(2) == 0
    clock.now = 200
    with pytest.raises(ClusterError, match=re.escape("was left for 60 s: a training asks for 1")):
        nodes.room(2)


@contextlib.contextmanager
def answering(port: int = 0) -> Iterator[int]:
    """A raylet's port."""
    with socket.create_server(("127.0.0.1", port)) as raylet:
        yield raylet.getsockname()[1]


def test_a_node_that_does_not_answer_is_lost_before_ray_says_so(
    there: list[dict[str, Any]], clock: Clock
) -> None:
    nodes = Nodes(request(), clock)
    with answering() as port:
        there[:] = [node("first", port=port)]
        assert nodes.find_lost(0) == set()
    assert nodes.find_lost(0) == {"127.0.0.1"}
    assert nodes.find_lost(nodes.num_losses) == set(), "it excuses nothing that began later"


def test_a_lost_node_has_no_room_though_ray_takes_it_for_alive(
    there: list[dict[str, Any]], clock: Clock
) -> None:
    with answering() as port:
        there[:] = [node("first", port=port), node("second", port=1)]
        nodes = Nodes(request(max_concurrent=2), clock)
        assert nodes.room(2) == 2
        assert nodes.find_lost(0) == {"127.0.0.1"}
        assert nodes.room(2) == 1


def test_a_node_that_only_missed_an_answer_can_be_lost_later(
    there: list[dict[str, Any]], clock: Clock
) -> None:
    nodes = Nodes(request(), clock)
    with answering() as port:
        there[:] = [node("first", port=port)]
    assert nodes.find_lost(0), "it did not answer"
    before = nodes.num_losses
    with answering(port):
        clock.now = LOOK_SECONDS
        nodes.room(1)
    there[0]["Alive"] = False
    assert nodes.find_lost(before) == {"127.0.0.1"}
    assert nodes.find_lost(nodes.num_losses) == set()
