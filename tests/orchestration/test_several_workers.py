"""Trainings of several workers, the ranks of Ray Train."""

import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from busi_tune.command_line import ClusterError
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.orchestration.cluster import connected
from busi_tune.orchestration.messages import PLACE
from busi_tune.orchestration.searcher import PlanSearcher
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import ListPlan, Training
from tests.orchestration.conftest import Make, Notes, Splits, config_with, held, make_fit
from tests.processes import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_two_workers_are_ranks_of_one_training_and_the_dashboard_knows_both(
    images: ImageSet,
    splits: Splits,
    make_trainings: Make,
    notes: Notes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports, hear = list[Mapping[str, Any]](), PlanSearcher.on_report

    def keep(self: PlanSearcher, trial_id: str, report: Mapping[str, Any]) -> Training:
        reports.append(report)
        return hear(self, trial_id, report)

    monkeypatch.setattr(PlanSearcher, "on_report", keep)
    (one,) = make_trainings(1, config_with(resources__num_workers=2))
    trainings = [replace(one, name="pair")]

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import torch.distributed as dist

        (folder / f"rank{dist.get_rank()}").write_text(str(dist.get_world_size()))

    resources = ResourcesConfig(num_workers=2)
    run_plan(ListPlan(trainings), images, splits, resources, notes, make_fit(body))
    assert notes.ended == {"pair": "finished"}
    assert [epoch for _, epoch in notes.epochs] == [1, 2, 3]
    places = [report.get(PLACE) for report in reports[:3]]
    assert places == [ray.util.get_node_ip_address()] * 3, "of both, and of what waits for them"
    folder = trainings[0].folder
    assert [(folder / f"rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    assert_dashboard_knows_both("pair")


def assert_dashboard_knows_both(name: str) -> None:
    told = ask_dashboard("api/train/v2/runs/v1")["train_runs"]
    attempts = [each for run in told if f"{name}-" in run["name"] for each in run["attempts"]]
    ranks = [worker["world_rank"] for each in attempts for worker in each["workers"]]
    assert ranks == [0, 1]

    def has_names() -> bool:
        actors = ask_dashboard("logical/actors")["data"]["actors"].values()
        return [actor["reprName"] for actor in actors].count(f"worker of {name}") == 2

    wait_until(has_names, "the names of both workers", every=1)


def ask_dashboard(path: str) -> Any:
    """What the dashboard is told by Ray."""
    with connected():
        url = f"http://{ray._private.worker.get_dashboard_url()}/{path}"
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_workers_without_a_place_are_said_after_the_wait(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    with held(num_cpus=1) as num_cpus:
        resources = ResourcesConfig(num_workers=num_cpus, wait_seconds=2, max_failures=0)
        plan = ListPlan(make_trainings(1, config_with(resources__num_workers=num_cpus)))
        with pytest.raises(ClusterError, match="no training found a place within 2 s"):
            run_plan(plan, images, splits, resources, notes, make_fit())
    assert not notes.ended, "it is no failure of the training"


def test_a_failure_in_two_workers_is_said_and_not_repeated(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import torch.distributed as dist

        with (folder / f"tries{dist.get_rank()}").open("a") as file:
            file.write("x")
        raise FloatingPointError("the loss is nan")

    trainings = make_trainings(1, config_with(resources__num_workers=2))
    resources = ResourcesConfig(num_workers=2)
    run_plan(ListPlan(trainings), images, splits, resources, notes, make_fit(body))
    assert notes.reasons == {"training 0": "FloatingPointError: the loss is nan"}
    # A worker whose neighbour has failed may be ended before its own first try.
    tries = [path.read_text() for path in trainings[0].folder.glob("tries?")]
    assert set(tries) == {"x"}


class SlowPlan(ListPlan):
    """Takes its time to note an epoch, as a driver on a busy machine does."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        time.sleep(8)  # for the end of the workers, which leaves nothing that can be seen
        return super().on_epoch(training, metrics)


@pytest.mark.timeout(240)
def test_two_workers_that_end_before_their_last_epoch_is_noted_end(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    """Ray's own report of the end and that of the last epoch would wait for each other.

    Three epochs, so that the third waits for a place behind the second.
    """
    plan = SlowPlan(make_trainings(1, config_with(resources__num_workers=2)))
    run_plan(plan, images, splits, ResourcesConfig(num_workers=2), notes, make_fit())
    assert notes.ended == {"training 0": "finished"}
    assert [epoch for _, epoch in notes.epochs] == [1, 2, 3]
