"""The way of reports from the ranks of a training to Tune."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Tell = Callable[[dict[str, Any] | None], None]
"""Brings a report to the driver, from any process of the training; None ends them."""


class FirstRank(UserCallback):
    """Tells what the first rank has reported of an epoch, once all have."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Tell it."""
        self._tell(metrics[0])


@contextlib.contextmanager
def reports_to_tune() -> Iterator[Tell]:
    """Report to Tune what the processes of this training tell, all of it before this ends.

    Ray's own `TuneReportCallback` reports from Tune's thread, beside the thread of the training:
    where the driver is still busy with one epoch, the next one and the training's end wait for
    each other, for ever.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(1, actor_options={"num_cpus": 0, "scheduling_strategy": here})
    failures: list[Exception] = []

    def report_all() -> None:
        try:
            for report in iter(queue.get, None):
                tune.report(report)
        except Exception as error:  # Tune's stop is none, and ends this process with the queue
            failures.append(error)
            # Or whoever has something to tell would wait for ever.
            ray.kill(queue.actor)  # type: ignore[arg-type]

    reporter = threading.Thread(target=report_all, daemon=True)
    reporter.start()
    try:
        yield queue.put
    finally:
        with contextlib.suppress(RayActorError):
            queue.put(None)
        reporter.join()
    if failures:
        raise failures[0]
