"""Trainings of several workers that are stopped give back what they held."""

import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
from ray.util import placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

from busi_tune import search
from busi_tune.orchestration.cluster import connected
from busi_tune.plan import Outcome, Training
from experiments.faults.placement_groups import Groups, StoppingPlan, stop_trainings
from tests.processes import TINY

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def keep_a_group() -> PlacementGroup:
    """Make a group that lives as long as this driver, as all do that Tune and Ray Train make."""
    group = placement_group([{"CPU": 0.5}])
    assert group.wait(60)
    return group


def test_a_group_belongs_to_none_when_all_that_train_began_after_it() -> None:
    with connected():
        began, groups = time.monotonic(), Groups()
        group = keep_a_group()
        assert groups.look([began]) == 0
        assert groups.look([began, time.monotonic()]) == 0
        assert groups.look([time.monotonic()]) == 1
        assert groups.count_left(seconds=1) == (1, 0.5)
        remove_placement_group(group)
        assert groups.look([]) == 0
        assert Groups().count_left(seconds=10) == (0, 0.0)


class KeepingPlan(StoppingPlan):
    """Keeps a group of the first training that ends."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        super().on_end(training, outcome)
        if super().num_open():
            keep_a_group()


@pytest.mark.slow
def test_a_group_that_is_kept_is_found_when_the_run_has_ended(tmp_path: Path) -> None:
    seen = stop_trainings(2, tmp_path, KeepingPlan, seconds=10)
    assert seen["stopped"] == 2
    assert (seen["left"], seen["busy_cpus"]) == (1, 0.5)


@pytest.mark.slow
def test_a_search_that_stops_trials_of_several_workers_gives_back_every_placement_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three trials; the script beside `stop_trainings` stops twenty without a search.

    Ranks hear of a stop some epochs later, so there are many.
    """
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number > 0)
    settings = [*TINY, "--training.epochs=20", "--model.base_width=4", "--resources.num_workers=2"]
    settings += ["--resources.cpus_per_worker=0.5", "--resources.max_concurrent=1"]
    settings += ["--search.num_trials=3", "--search.start=[]"]
    settings += ["--search.sampler=random", "--search.refit=0", f"--run_dir={tmp_path / 'run'}"]
    with connected():  # outside of the run's own, so that the driver stays when it has ended
        groups = Groups()
        assert search.main(settings) == 0
        left = groups.count_left(seconds=60)
    assert pd.read_csv(tmp_path / "run" / "trials.csv")["state"].tolist() == [
        "COMPLETE",
        "PRUNED",
        "PRUNED",
    ]
    assert len(groups.seen) >= 3, "no group was ever made"
    assert left == (0, 0.0)
