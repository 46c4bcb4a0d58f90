"""What a run would use if it were there, so that an autoscaler brings it."""

from typing import Any

import ray

MOST_TASKS = 100


class Demand:
    """Tasks that ask for what a worker asks for, and do nothing.

    An autoscaler starts nodes for tasks that find no place. These wait for theirs, run for a
    moment and are gone; where there is no autoscaler they wait in vain and hold nothing. They
    belong to the driver and end with it. `ray.autoscaler.sdk.request_resources` would not: the
    wish of a killed driver would keep every node that it brought.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        """Ask for nothing yet."""
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_do_nothing)
        self._waiting: list[Any] = []

    def ask(self, num_workers: int) -> None:
        """Have places for so many workers asked for, beside what is in use.

        What waits already is not taken back: it finds its place or ends with the driver.
        """
        if self._waiting:
            _, self._waiting = ray.wait(self._waiting, num_returns=len(self._waiting), timeout=0)
        missing = min(num_workers, MOST_TASKS) - len(self._waiting)
        self._waiting += [self._task.remote() for _ in range(missing)]


def _do_nothing() -> None:
    """Find a place."""
