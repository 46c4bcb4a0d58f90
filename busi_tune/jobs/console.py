"""Where tables are printed."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 400


def open_console() -> Console:
    """Return the terminal, or plain output whose lines are never wrapped."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def print_rows(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows of equal columns as a table; nothing where there are none."""
    if rows:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*row.values())
        open_console().print(table)


def print_lines(lines: Sequence[str]) -> None:
    """Print sentences, each on a line of its own."""
    console = open_console()
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
