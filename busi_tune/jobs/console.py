"""Where tables are printed."""

import sys

from rich.console import Console

PLAIN_WIDTH = 400


def open_console() -> Console:
    """Return the terminal, or plain output whose lines are never wrapped."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
