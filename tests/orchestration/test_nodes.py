"""Nodes that come and go, as searcher and cluster see them; no Ray is started."""

import contextlib
import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration import nodes as nodes_module
from busi_tune.orchestration.cluster import Request
from busi_tune.orchestration.nodes import LOOK_SECONDS, Nodes
from busi_tune.orchestration.searcher import PlanSearcher
from busi_tune.orchestration.worker import to_message, work
from busi_tune.plan import ListPlan, Training
from busi_tune.settings import override
from tests.orchestration.conftest import Notes

Make = Callable[..., list[Training]]


class FakeNodes:
    """A cluster with so much room, of which nodes can be lost."""

    def __init__(self, room: int) -> None:
        self.free = room
        self.dead: list[str] = []

    def room(self, wanted: int) -> int:
        return self.free

    @property
    def num_losses(self) -> int:
        return len(self.dead)

    def find_lost(self, losses_before: int) -> set[str]:
        return {f"address of {node}" for node in self.dead[losses_before:]}


def searcher_of(
    trainings: list[Training], notes: Notes, room: int, max_failures: int = 0
) -> tuple[Any, FakeNodes]:
    nodes = FakeNodes(room)
    plan = ListPlan(trainings)
    return PlanSearcher(plan, notes, max_failures, nodes), nodes  # type: ignore[arg-type]


def finish(searcher: Any, trial_id: str) -> None:
    training = searcher._tries[trial_id].training
    content = {"status": "finished", "best_value": 0.5, "best_epoch": 1, "epochs": 1}
    (training.folder / "result.json").write_text(json.dumps(content | {"seconds": 0.0}))
    searcher.on_trial_complete(trial_id)


def test_as_many_trainings_are_given_out_as_the_cluster_carries_now(
    make_trainings: Make, notes: Notes
) -> None:
    searcher, nodes = searcher_of(make_trainings(4, Config()), notes, room=1)
    assert searcher.suggest("a")["name"] == "training 0"
    assert searcher.suggest("b") is None
    nodes.free = 3  # two nodes joined
    assert [searcher.suggest(i)["name"] for i in "bc"] == ["training 1", "training 2"]
    assert searcher.suggest("d") is None
    nodes.free = 1
    finish(searcher, "a")
    assert searcher.suggest("d") is None, "two are still under way"
    for trial_id in "bc":
        finish(searcher, trial_id)
    assert searcher.suggest("d")["name"] == "training 3"
    finish(searcher, "d")
    assert searcher.suggest("e") == "FINISHED"
    assert list(notes.ended.values()) == ["finished"] * 4


def test_a_death_is_tried_again_before_anything_new_and_counts(
    make_trainings: Make, notes: Notes
) -> None:
    searcher, _ = searcher_of(make_trainings(2, Config()), notes, room=1, max_failures=1)
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    assert notes.ended == {}
    assert searcher.suggest("b")["name"] == "training 0"
    assert notes.started == ["training 0"], "it did not start anew"
    searcher.on_trial_complete("b", error=True)
    assert notes.reasons == {
        "training 0": "its worker died (killed or out of memory), 2 times",
    }
    assert searcher.suggest("c")["name"] == "training 1"


def test_lost_nodes_are_no_failures_of_a_training_but_each_excuses_one_death_only(
    make_trainings: Make, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    searcher, nodes = searcher_of(make_trainings(1, Config()), notes, room=1, max_failures=0)
    for number in range(5):
        searcher.suggest(f"{number}")
        nodes.dead.append(f"node {number}")
        searcher.on_trial_complete(f"{number}", error=True)
    assert notes.ended == {}
    assert caplog.text.count("training 0: a node died, it goes on from its last epoch") == 5
    searcher.suggest("last")
    searcher.on_trial_complete("last", error=True)
    assert notes.ended == {"training 0": "failed"}


@pytest.mark.parametrize(
    ("num_workers", "lost", "fails"),
    [
        (1, "first", False),
        (1, "other", True),
        (2, "first", False),  # where the process is that waits for the workers
        (2, "second", False),
        (2, "other", True),
    ],
)
def test_only_a_node_on_which_a_training_was_excuses_its_death(
    make_trainings: Make, notes: Notes, num_workers: int, lost: str, fails: bool
) -> None:
    config = override(Config(), {"resources.num_workers": num_workers})
    searcher, nodes = searcher_of(make_trainings(1, config), notes, room=1, max_failures=0)
    searcher.suggest("a")
    for number in ("first", "second", "second")[: 1 if num_workers == 1 else 3]:
        searcher.on_report("a", {"place": f"address of {number}"})
    nodes.dead.append(lost)
    searcher.on_trial_complete("a", error=True)
    assert bool(notes.ended) == fails


def test_a_worker_tells_its_place_before_all_else(
    make_trainings: Make,
    images: ImageSet,
    splits: dict[str, Split],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.1")
    (training,) = make_trainings(1, Config())
    training.folder.mkdir()
    reports: list[Any] = []

    def fit(*_: object) -> None:
        reports.append("it trains")

    stored: Any = {8: images}
    work(to_message(training), stored, splits, fit, reports.append, reports.append)
    assert reports == [{"place": "10.0.0.1"}, "it trains"]


def test_trainings_of_equal_settings_are_given_out_one_after_the_other(
    make_trainings: Make, notes: Notes
) -> None:
    first, second, third, last = make_trainings(4, Config())
    twins = [first, *(replace(each, folder=first.folder) for each in (second, third)), last]
    searcher, nodes = searcher_of(twins, notes, room=2, max_failures=1)
    assert searcher.suggest("a")["name"] == "training 0"
    assert [searcher.suggest("b") for _ in range(5)] == [None] * 5, "it waits for the first"
    assert notes.started == [f"training {i}" for i in range(3)], "as many as have room, no more"
    nodes.free = 3
    assert searcher.suggest("b")["name"] == "training 3"
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("c")["name"] == "training 0", "what died goes before"
    finish(searcher, "c")
    assert searcher.suggest("d")["name"] == "training 1"
    finish(searcher, "d")
    assert searcher.suggest("e")["name"] == "training 2"
    for trial_id in "be":
        finish(searcher, trial_id)
    assert searcher.suggest("f") == "FINISHED"


def test_workers_without_a_place_wait_while_others_train(
    make_trainings: Make, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = override(Config(), {"resources.num_workers": 2})
    searcher, _ = searcher_of(make_trainings(2, config), notes, room=2, max_failures=0)
    for trial_id in "ab":
        searcher.suggest(trial_id)
        searcher.on_report(trial_id, {"place": "10.0.0.1"})
    searcher.on_report("a", {"place": "10.0.0.2"})
    for _ in range(3):
        searcher.on_report("b", {"no_place": "no training found a place"})
        searcher.on_trial_complete("b")
        assert searcher.suggest("b")["name"] == "training 1"
    assert caplog.text.count("training 1: no place for its workers yet, it waits") == 3
    finish(searcher, "a")
    with pytest.raises(ClusterError, match="no training found a place"):
        searcher.on_report("b", {"no_place": "no training found a place"})
    searcher.on_trial_complete("b", error=True)  # as Tune says of what is under way
    assert notes.ended == {"training 0": "finished"}
    with pytest.raises(ClusterError):
        searcher.suggest("c")


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
