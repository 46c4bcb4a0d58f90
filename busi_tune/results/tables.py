"""How tables are written: CSV for machines, Markdown with a caption for people."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from busi_tune.run_directory import write_atomic

MISSING = "-"


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV in full precision."""
    write_atomic(path, table.to_csv(index=False))


def write_markdown(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a Markdown page of a title and sections, each a paragraph or a table."""
    write_atomic(path, "\n\n".join([f"# {title}", *sections]) + "\n")


def to_markdown(table: pd.DataFrame, scores: Iterable[str] = ()) -> str:
    """Render a table in Markdown; numbers stand to the right, texts to the left.

    Args:
        table: what to render; its columns are the headings.
        scores: columns that are scores in [0, 1].
    """
    columns = [str(column) for column in table]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table]
    formats = [format_score if column in scores else format_value for column in columns]
    rules = ["---:" if right else "---" for right in numeric]
    rows = [
        [form(value) for form, value in zip(formats, row, strict=True)]
        for row in table.itertuples(index=False)
    ]
    lines = [columns, rules, *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def format_value(value: object) -> str:
    """Format a cell: 4 significant digits, thousands in whole numbers, a dash for no value."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return MISSING if np.isnan(value) else f"{value:.4g}"
    return MISSING if value is None or value is pd.NA else str(value)


def format_score(value: float) -> str:
    """Format a score in [0, 1] to 3 decimals."""
    return MISSING if np.isnan(value) else f"{value:.3f}"


def format_interval(mean: float, low: float, high: float) -> str:
    """Format a mean with its interval, `0.812 [0.795, 0.829]`."""
    return MISSING if np.isnan(mean) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def format_summary(mean: float, sd: float, low: float, high: float) -> str:
    """Format mean, standard deviation and interval, `0.812 ± 0.153 [0.795, 0.829]`."""
    interval = format_interval(mean, low, high)
    return interval if np.isnan(sd) else interval.replace(" ", f" ± {sd:.3f} ", 1)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
