"""How trainings are given out: as many as fit, again after a death, those alike one by one."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.orchestration.searcher import PlanSearcher
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
        (3, "other", False),  # its third worker was still to start
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


def test_trainings_of_equal_settings_are_given_out_one_after_the_other(
    make_trainings: Make, notes: Notes
) -> None:
    first, second, third, last = make_trainings(4, Config())
    twins = [first, *(replace(each, folder=first.folder) for each in (second, third)), last]
    searcher, nodes = searcher_of(twins, notes, room=2, max_failures=1)
    assert searcher.suggest("a")["name"] == "training 0"
    assert [searcher.suggest("b") for _ in range(5)] == [None] * 5, "it waits for the first"
    assert notes.started == ["training 0"], "what waits has not started"
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
    assert caplog.text.count("training 1 waits: no place for its workers yet") == 1
    finish(searcher, "a")
    searcher.on_report("b", {"no_place": "no training found a place"})
    searcher.on_trial_complete("b")
    assert searcher.suggest("b")["name"] == "training 1", "the first had it and gave it back"
    with pytest.raises(ClusterError, match="no training found a place"):
        searcher.on_report("b", {"no_place": "no training found a place"})
    assert notes.ended == {"training 0": "finished"}
    with pytest.raises(ClusterError):
        searcher.suggest("c")
