"""How far a command has come: one line that changes on a terminal, few lines off it."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

SECONDS_BETWEEN_LINES = 30.0
"""Off a terminal."""


class Phases:
    """Takes the calls of a `PhaseProgress` and shows them on the standard error stream."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, shortest: float = 1.0) -> None:
        """Show nothing yet.

        Args:
            clock: gives seconds.
            shortest: seconds below which the end of a phase is not worth a line.
        """
        self._clock = clock
        self._shortest = shortest
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        self._began = self._shown = self._clock()
        self._open = False
        return self

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of `total` items of a phase are done, and what is left.

        With `done` 0 a phase begins, where something else went before that is none of its time.
        """
        now = self._clock()
        if done == 0:
            self._began = self._shown = now
        spent = now - self._began
        if done == total:
            line = f"{phase}: {total} in {spent:.0f} s"
            if self._open or spent >= self._shortest:
                print(f"\r{line:<50}" if self._open else line, file=sys.stderr)
            self._began = self._shown = now
            self._open = False
        elif now - self._shown > (0.1 if self._terminal else SECONDS_BETWEEN_LINES):
            left = f"about {spent / done * (total - done):.0f} s left"
            line = f"{phase}: {done} of {total}, {left}"
            if self._terminal:
                print(f"\r{line:<50}", end="", file=sys.stderr, flush=True)
            else:
                print(line, file=sys.stderr, flush=True)
            self._shown, self._open = now, self._terminal

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open:
            print(file=sys.stderr)


def format_duration(seconds: float) -> str:
    """Format a time as minutes and seconds, with hours where there are any."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
