"""Threads over the images of a folder."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Called with the number of items done and in all."""
PhaseProgress = Callable[[str, int, int], None]
"""Called with the name of a phase, the number of items done in it and in all."""


def in_phase(progress: PhaseProgress | None, phase: str) -> Progress | None:
    """Return the progress of one phase."""
    return partial(progress, phase) if progress else None


def count(items: Iterable[Item], total: int, progress: Progress | None) -> Iterator[Item]:
    """Give items one after the other, and tell how many are dealt with: none at first."""
    if progress:
        progress(0, total)
    for done, item in enumerate(items, start=1):
        yield item
        if progress:
            progress(done, total)


def map_threads(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> Iterator[Result]:
    """Apply a function to every item, the results in order.

    Threads suffice: decoding, hashing and filtering of images release the interpreter's lock.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, result in enumerate(pool.map(function, items), start=1):
            yield result
            if progress:
                progress(done, len(items))
