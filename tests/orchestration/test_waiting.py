"""A run that finds the cluster full."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.tuning import run_plan
from busi_tune.orchestration.waiting import SAY_SECONDS, START_SECONDS, Waiting
from busi_tune.plan import ListPlan, Training
from tests.orchestration.conftest import Notes, held, make_fit

pytestmark = pytest.mark.ray


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_training_that_finds_no_place_ends_the_run_after_the_wait(
    images: ImageSet,
    splits: dict[str, Split],
    make_trainings: Callable[..., list[Training]],
    notes: Notes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainings, resources = make_trainings(1, Config()), ResourcesConfig(wait_seconds=3)
    said = "no training found a place within 3 s"
    with held(), pytest.raises(ClusterError, match=said), monkeypatch.context() as patch:
        patch.setattr("busi_tune.orchestration.waiting.START_SECONDS", 1.0)
        run_plan(ListPlan(trainings), images, splits, resources, notes, make_fit())
    assert notes.ended == {}
    run_plan(ListPlan(trainings), images, splits, ResourcesConfig(), notes, make_fit())
    assert notes.ended == {"training 0": "finished"}, "the training was still open"


@pytest.mark.parametrize(("seconds", "limit"), [(200.0, 200.0), (1.0, START_SECONDS)])
def test_only_a_run_of_which_nothing_trains_is_waiting(
    caplog: pytest.LogCaptureFixture, seconds: float, limit: float
) -> None:
    caplog.set_level("INFO")
    now = 0.0
    waiting = Waiting(seconds, lambda: now)

    def step(later: float, *states: str) -> None:
        nonlocal now
        now += later
        waiting.on_step_begin(0, [SimpleNamespace(status=state) for state in states])  # type: ignore[misc]

    step(0, Trial.PENDING)
    step(SAY_SECONDS - 1, Trial.PENDING)
    assert not caplog.records
    step(1, Trial.PENDING)
    step(1, Trial.PENDING)
    assert len(caplog.records) == 1
    step(limit, Trial.PENDING, Trial.RUNNING)
    step(0, Trial.PENDING, Trial.TERMINATED)
    step(limit - 1, Trial.PENDING, Trial.TERMINATED)
    step(limit, Trial.TERMINATED)
    step(0, Trial.PENDING)
    with pytest.raises(ClusterError, match=f"within {limit:g} s"):
        step(limit, Trial.PENDING)
