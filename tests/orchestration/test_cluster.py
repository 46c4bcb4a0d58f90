"""What is asked of a cluster, set beside what there is."""

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import connected
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import ListPlan, Training
from tests.orchestration.conftest import Notes, make_fit, run_cluster

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

Make = Callable[..., list[Training]]
Splits = dict[str, Split]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (ResourcesConfig(num_workers=64, wait_seconds=0), "64 worker(s) of 1 CPU(s)"),
        (ResourcesConfig(gpus_per_worker=1.0, wait_seconds=0), "1 GPU(s), but the cluster's 1"),
        (ResourcesConfig(cpus_per_worker=64.0, wait_seconds=2), "lower resources.num_workers"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused_before_anything_starts(
    images: ImageSet,
    splits: Splits,
    make_trainings: Make,
    notes: Notes,
    resources: ResourcesConfig,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    plan = ListPlan(make_trainings(1, Config()))
    with pytest.raises(ClusterError, match=re.escape(message)):
        run_plan(plan, images, splits, resources, notes, make_fit())
    assert notes.started == []
    assert ("waiting up to 2 s" in caplog.text) == (resources.wait_seconds == 2)


def test_a_cluster_that_cannot_be_reached_is_said(
    images: ImageSet,
    splits: Splits,
    make_trainings: Make,
    notes: Notes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    plan = ListPlan(make_trainings(1, Config()))
    with pytest.raises(
        ClusterError, match=r"cannot join Ray at 127\.0\.0\.1:1, named by RAY_ADDRESS"
    ):
        run_plan(plan, images, splits, ResourcesConfig(), notes, make_fit())


def test_a_cluster_of_ray_start_on_this_machine_is_joined(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"{cluster}\n")
    with connected() as joined:
        assert joined
        assert ray.get_runtime_context().gcs_address == cluster
    assert "no token" not in caplog.text


def test_a_block_within_another_leaves_the_cluster_joined() -> None:
    with connected():
        with connected() as joined:
            assert joined
        assert ray.is_initialized()
    assert not ray.is_initialized()


def test_no_cluster_is_started_that_is_open_to_everyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterError, match="open to everyone; unset it"), connected():
        pass


_START_TWICE = """
import logging, ray
from busi_tune.orchestration.cluster import connected
from ray._private import ray_constants

logging.basicConfig(level="WARNING", format="%(message)s")
shutdown, limit = ray.shutdown, ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S
ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S = 0

def stop():
    ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S = 2 * limit
    shutdown()

ray.shutdown = stop
with connected():
    print(ray.cluster_resources()["CPU"])
"""


@pytest.mark.slow
def test_a_cluster_of_which_a_part_was_too_slow_is_started_once_more() -> None:
    """The dashboard's limit is taken away for the first start, which leaves the rest running."""
    with tempfile.TemporaryDirectory(
        prefix="bt-", ignore_cleanup_errors=True
    ) as short:  # sockets lie in it
        done = subprocess.run(
            [sys.executable, "-c", _START_TWICE],
            env=os.environ | {"RAY_ADDRESS": "", "RAY_TMPDIR": short},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "Ray did not start: " in done.stderr
    assert float(done.stdout) >= 1


def test_a_cluster_of_the_tests_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(AssertionError, match="open to everyone; unset it"), run_cluster():
        pass
