import json
from pathlib import Path

import pytest

from busi_tune.config import Config
from busi_tune.plan import ListPlan, Training, read_outcome


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
