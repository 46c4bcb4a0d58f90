"""What a training tells the driver beside its epochs."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

logger = logging.getLogger(__name__)

DISK_FULL = "disk_full"
"""What a training reports instead of an epoch where it could not write; the value is its folder."""
STORAGE_LOST = "storage_lost"
"""What it reports where the storage was lost; the value says why."""
PLACE = "place"
"""What each of its processes reports first; the value is the address of its node."""
NO_PLACE = "no_place"
"""What it reports where its workers found no place in time; the value says so."""
MESSAGE = "message"
"""What it reports for a warning in its log; the value is its text."""


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._tell({MESSAGE: record.getMessage()})
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def telling(tell: Callable[[dict[str, Any]], Any]) -> Iterator[None]:
    """Hand the package's warnings in this process to the driver at once: nobody reads its log.

    Args:
        tell: brings a report to the driver.
    """
    package, teller = logging.getLogger("busi_tune"), _Teller(tell)
    package.addHandler(teller)
    try:
        yield
    finally:
        package.removeHandler(teller)


class Messages:
    """Says in the driver's log what trainings warned of; several ranks may say the same."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def say(self, name: str, report: Mapping[str, Any]) -> None:
        """Say the message of a report, if it is one, with the training's name, once."""
        if MESSAGE in report and (said := (name, report[MESSAGE])) not in self._said:
            self._said.add(said)
            logger.warning("%s: %s", *said)
