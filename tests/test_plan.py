import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from busi_tune.config import Config
from busi_tune.plan import FollowedPlan, JoinedPlan, ListPlan, Plan, Training, read_outcome


@pytest.fixture
def trainings(tmp_path: Path) -> list[Training]:
    for name in ("0", "1", "2"):
        (tmp_path / name).mkdir()
    return [Training(f"fold {n}", {"fold": n}, Config(), "s", tmp_path / str(n)) for n in range(3)]


def finish(training: Training) -> None:
    (training.folder / "result.json").write_text(json.dumps({"status": "finished", "epochs": 2}))


def fail(training: Training, reason: str) -> None:
    (training.folder / "failure.json").write_text(json.dumps({"reason": reason}))


def test_finished_trainings_are_not_handed_out(trainings: list[Training]) -> None:
    finish(trainings[1])
    plan = ListPlan(trainings)
    assert plan.num_open() == 2
    assert [plan.next_training(), plan.next_training()] == [trainings[0], trainings[2]]
    assert plan.next_training() is None


def test_failed_trainings_are_tried_again(trainings: list[Training]) -> None:
    fail(trainings[0], "out of memory")
    plan = ListPlan(trainings)
    assert plan.next_training() == trainings[0]
    assert not (trainings[0].folder / "failure.json").exists()


def test_a_plan_is_open_until_every_end_is_told(trainings: list[Training]) -> None:
    ends: list[int] = []
    plan = ListPlan(trainings, lambda: ends.append(plan.num_open()))
    while training := plan.next_training():
        assert not plan.on_epoch(training, {"epoch": 1})
        finish(training)
        plan.on_end(training, read_outcome(training.folder))
    assert ends == [2, 1, 0]


def test_the_outcome_is_what_the_folder_tells(trainings: list[Training]) -> None:
    folder = trainings[0].folder
    assert read_outcome(folder, "its worker died").reason == "its worker died"
    assert read_outcome(folder).failed
    fail(trainings[0], "out of memory")
    assert read_outcome(folder, "its worker died").reason == "out of memory"
    finish(trainings[0])
    outcome = read_outcome(folder)
    assert (outcome.status, outcome.result["epochs"]) == ("finished", 2)


def place(folder: Path, name: str) -> Training:
    (folder / name).mkdir(parents=True)
    return Training(name, {}, Config(), "s", folder / name)


def drive(plan: Plan, slots: int) -> list[str]:
    """Run a plan as the cluster does and return the names in the order of their starts."""
    started: list[str] = []
    running: list[Training] = []
    while plan.num_open():
        while len(running) < slots and (training := plan.next_training()):
            running.append(training)
            started.append(training.name)
        assert running, "a plan with open trainings hands none out and waits for none"
        training = running.pop(0)
        plan.on_epoch(training, {"epoch": 1, "val_dice": 0.5})
        finish(training)
        plan.on_end(training, read_outcome(training.folder))
    assert plan.next_training() is None
    return started


def list_plan(folder: Path, names: str) -> ListPlan:
    return ListPlan([place(folder, name) for name in names])


PLANS: dict[str, Callable[[Path], Plan]] = {
    "list": lambda folder: list_plan(folder, "abc"),
    "followed": lambda folder: FollowedPlan(list_plan(folder, "ab"), lambda: [place(folder, "c")]),
    "followed, nothing first": lambda folder: FollowedPlan(
        list_plan(folder, ""), lambda: [place(folder, "c")]
    ),
    "joined": lambda folder: JoinedPlan([list_plan(folder, "ab"), list_plan(folder, "c")]),
    "joined, followed": lambda folder: JoinedPlan(
        [
            FollowedPlan(list_plan(folder, "ab"), lambda: [place(folder, "c")]),
            FollowedPlan(list_plan(folder, "de"), lambda: [place(folder, "f")]),
            list_plan(folder, "gh"),
        ]
    ),
}


@pytest.mark.parametrize("slots", [1, 2, 9])
@pytest.mark.parametrize("name", PLANS)
def test_every_plan_hands_out_each_training_once_and_as_many_as_it_says(
    tmp_path: Path, name: str, slots: int
) -> None:
    plan = PLANS[name](tmp_path)
    promised = plan.num_open()
    started = drive(plan, slots)
    assert sorted(started) == sorted(path.name for path in tmp_path.iterdir())
    assert len(started) == promised


def test_what_follows_waits_for_all_before_it_and_others_fill_its_slot(tmp_path: Path) -> None:
    # c follows a and b: with two slots, g starts while b is still running.
    plan = JoinedPlan(
        [
            FollowedPlan(list_plan(tmp_path, "ab"), lambda: [place(tmp_path, "c")]),
            list_plan(tmp_path, "gh"),
        ]
    )
    assert drive(plan, slots=2) == ["a", "b", "g", "c", "h"]


def test_a_plan_that_leads_to_nothing_ends_with_its_first_part(tmp_path: Path) -> None:
    plan = FollowedPlan(list_plan(tmp_path, "a"), lambda: [])
    assert plan.num_open() == 2
    assert drive(plan, slots=2) == ["a"]


def test_what_follows_is_not_run_again(tmp_path: Path) -> None:
    winner = place(tmp_path, "c")
    finish(winner)
    assert FollowedPlan(list_plan(tmp_path, ""), lambda: [winner]).num_open() == 0


def test_plans_whose_trainings_share_a_name_or_a_folder_each_hear_of_their_own(
    tmp_path: Path,
) -> None:
    heard: list[str] = []

    def watched(name: str, training: Training) -> ListPlan:
        return ListPlan([training], lambda: heard.append(name))

    trial = place(tmp_path / "search", "trial 3")
    model = place(tmp_path / "models", "trial 3")
    winner = replace(model, name="nested_search")
    named = {"trial": trial, "model": model, "winner": winner}
    plan = JoinedPlan([watched(name, training) for name, training in named.items()])
    started = [plan.next_training() for _ in named]
    assert started == list(named.values())
    for name, training in reversed(named.items()):
        plan.on_epoch(training, {"epoch": 1})
        plan.on_end(training, read_outcome(training.folder))
        assert heard.pop() == name
    assert plan.num_open() == 0
