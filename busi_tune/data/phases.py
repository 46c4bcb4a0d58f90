"""How far a command has come: one line that changes on a terminal, a line per phase off it."""

import sys
import time
from types import TracebackType
from typing import Self


class Phases:
    """Takes the calls of a `PhaseProgress` and shows them on the standard error stream."""

    def __enter__(self) -> Self:
        self._began = self._shown = time.monotonic()
        self._open = False
        return self

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of `total` items of a phase are done."""
        now, last = time.monotonic(), done == total
        if sys.stderr.isatty() and (last or now - self._shown > 0.1):
            print(f"\r{phase}: {done} of {total}", end="", file=sys.stderr, flush=True)
            self._shown, self._open = now, True
        if last:
            start = "\r" if self._open else ""
            print(f"{start}{phase}: {total} in {now - self._began:.0f} s", file=sys.stderr)
            self._began, self._open = now, False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open:
            print(file=sys.stderr)
