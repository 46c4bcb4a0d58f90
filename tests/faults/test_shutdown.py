"""A run that started Ray itself leaves nothing of it behind."""

from pathlib import Path

import psutil
import pytest

from tests.faults.runs import epochs_seen, finished
from tests.processes import TINY, descendants, start, wait_for_end, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
SECONDS_TO_END = 120


def test_nothing_lives_on_after_a_terminated_run_and_after_a_finished_one(tmp_path: Path) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    settings = [*TINY, "--training.epochs=6", "--kfold.num_folds=2", "--kfold.models={}"]
    driver = start("kfold", [*settings, f"--run_dir={run_dir}"], log)
    wait_until(lambda: epochs_seen(run_dir) >= 1, "an epoch")
    started = descendants(driver)
    assert any("gcs_server" in process.name() for process in started), "Ray was not started here"
    driver.terminate()
    wait_for_end(driver, log, 240, code=130)
    assert_ended(started)

    driver = start("kfold", [f"--resume={run_dir}"], log)
    wait_until(lambda: finished(run_dir) >= 1, "a result")
    started = descendants(driver)
    wait_for_end(driver, log, 240)
    assert_ended(started)


def assert_ended(started: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(started, timeout=SECONDS_TO_END)
    assert not alive
