"""The wait of trainings for a place in the cluster."""

import logging
import time
from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from busi_tune.command_line import ClusterError

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""What the process of a worker may take to start on a busy machine where it has its place."""
SAY_SECONDS = 30.0
"""A longer wait is said."""


def describe_wait(seconds: float) -> str:
    """Return why a run ends that has waited for so long."""
    return (
        f"no training found a place within {seconds:g} s: something else holds the cluster's CPUs "
        "or GPUs, it lost nodes, or it starts processes slowly (`ray status` shows what is in "
        "use); end that, or wait longer with resources.wait_seconds"
    )


class Waiting(Callback):
    """Ends a run of which no training has found a place for as long as it may wait."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait.

        Args:
            seconds: how long a run may wait.
            clock: gives seconds.
        """
        self._seconds = seconds
        self._clock = clock
        self._since: float | None = None
        self._said = False

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look who waits.

        Raises:
            ClusterError: all have waited for too long.
        """
        states = {trial.status for trial in trials}
        if Trial.RUNNING in states or Trial.PENDING not in states:
            self._since = None
            return
        now = self._clock()
        if self._since is None:
            self._since = now
        waited, limit = now - self._since, max(self._seconds, START_SECONDS)
        if waited >= limit:
            raise ClusterError(describe_wait(limit))
        if waited >= SAY_SECONDS and not self._said:
            self._said = True
            logger.info(
                "waiting for CPUs or GPUs that are held, or for processes that are slow to start"
            )
