"""Warnings of a training's process reach the log of the driver, which is all that people see."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import ListPlan, Training
from busi_tune.settings import override
from tests.orchestration.conftest import Notes, make_fit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


class Sign(logging.Handler):
    """Leaves a file in each training's folder as soon as something is said of the training."""

    def __init__(self, trainings: list[Training]) -> None:
        super().__init__()
        self._trainings = trainings

    def emit(self, record: logging.LogRecord) -> None:
        for training in self._trainings:
            if record.getMessage().startswith(f"{training.name}: "):
                (training.folder / "heard").touch()


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_warnings_are_said_by_the_driver_at_once_and_once_with_the_name_of_the_training(
    images: ImageSet,
    splits: dict[str, Split],
    make_trainings: Callable[..., list[Training]],
    notes: Notes,
    caplog: pytest.LogCaptureFixture,
    num_workers: int,
) -> None:
    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import logging
        import time

        logger = logging.getLogger("busi_tune.training.anything")
        logger.info("nothing of note in epoch %d", epoch)
        logger.warning("not well in epoch %d", epoch)
        deadline = time.monotonic() + 120
        while not (folder / "heard").exists():
            assert time.monotonic() < deadline, "it is not said before the epoch ends"
            time.sleep(0.05)

    config = override(Config(), {"training.epochs": 2, "resources.num_workers": num_workers})
    trainings = make_trainings(2 if num_workers == 1 else 1, config)
    sign, logger = Sign(trainings), logging.getLogger("busi_tune")
    logger.addHandler(sign)
    try:
        resources = ResourcesConfig(num_workers=num_workers)
        run_plan(ListPlan(trainings), images, splits, resources, notes, make_fit(body))
    finally:
        logger.removeHandler(sign)
    assert set(notes.ended.values()) == {"finished"}, notes.reasons
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    expected = [f"{t.name}: not well in epoch {epoch}" for t in trainings for epoch in (1, 2)]
    assert sorted(text for text in said if "epoch" in text) == expected
    assert [epoch for _, epoch in sorted(notes.epochs)] == [1, 2] * len(trainings)
