"""Trainings of several workers that are stopped give back what they held."""

import importlib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.mark.slow
def test_stopped_trainings_of_several_workers_give_back_every_placement_group(
    tmp_path: Path,
) -> None:
    """With two trainings; the script beside `stop_trainings` does it with twenty."""
    script = importlib.import_module("experiments.faults.placement_groups")
    seen = script.stop_trainings(2, tmp_path)
    assert script.NUM_WORKERS > 1
    assert seen["stopped"] == 2
    assert seen["groups"] >= 2, "no group was ever made"
    assert (seen["left"], seen["busy_cpus"]) == (0, 0.0)
