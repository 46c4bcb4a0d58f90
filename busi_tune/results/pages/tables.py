"""How tables are written: CSV for machines, Markdown and LaTeX with captions for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from busi_tune.results.pages.latex import to_paragraph, to_tables
from busi_tune.run_directory import write_atomic

MISSING = "-"


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV in full precision."""
    write_atomic(path, table.to_csv(index=False))


@dataclass(frozen=True)
class Table:
    """A table of a page; its columns are the headings."""

    caption: str
    """What a reader must know to read it apart from the page: protocol, empty rule, n."""
    rows: pd.DataFrame
    scores: tuple[str, ...] = ()
    """Columns that are scores in [0, 1]."""
    keys: int = 1
    """Leading columns that name a row, repeated where a wide table is split."""

    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers, which stand to the right."""
        return [pd.api.types.is_numeric_dtype(dtype) for dtype in self.rows.dtypes]

    def cells(self) -> list[list[str]]:
        """The headings and the formatted rows."""
        columns = [str(column) for column in self.rows]
        formats = [format_score if column in self.scores else format_value for column in columns]
        body = [
            [form(value) for form, value in zip(formats, row, strict=True)]
            for row in self.rows.itertuples(index=False)
        ]
        return [columns, *body]


def write_page(folder: Path, name: str, title: str, sections: Sequence[str | Table]) -> None:
    """Write a page as Markdown and as a LaTeX fragment to be read in by \\input.

    The document needs booktabs and graphicx. Its tables bear the labels `tab:<name>-1`, ...

    Args:
        folder: where `<name>.md` and `<name>.tex` go.
        name: of the files.
        title: the page's heading; a comment in LaTeX, where the document has its own.
        sections: headings that begin with `## `, Markdown paragraphs, lists and tables.
    """
    markdown, latex = [f"# {title}"], [f"% {title}"]
    number = 0
    for section in sections:
        if isinstance(section, str):
            markdown.append(section)
            latex.append(to_paragraph(section))
            continue
        number += 1
        markdown += [f"**Table {number}.** {section.caption}", to_markdown(section)]
        label = f"tab:{name}-{number}"
        cells, numeric = section.cells(), section.numeric()
        latex.append(to_tables(section.caption, label, cells, numeric, section.keys))
    write_atomic(folder / f"{name}.md", "\n\n".join(markdown) + "\n")
    write_atomic(folder / f"{name}.tex", "\n\n".join(latex) + "\n")


def to_markdown(table: Table) -> str:
    """Render a table's rows in Markdown, without its caption."""
    heading, *body = table.cells()
    rules = ["---:" if right else "---" for right in table.numeric()]
    lines = [heading, rules, *body]
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


def format_interval(mean: float, low: float, high: float, *, decimals: int = 3) -> str:
    """Format a mean with its interval, `0.812 [0.795, 0.829]`."""
    if np.isnan(mean):
        return MISSING
    return f"{mean:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def format_estimate(row: "pd.Series[float]", score: str) -> str:
    """Format the columns `<score>_mean`, `_low` and `_high` of a row of a table."""
    return format_interval(*(row[f"{score}_{part}"] for part in ("mean", "low", "high")))


def format_p(p: float) -> str:
    """Format a p value to 3 decimals, `< 0.001` below them."""
    return "< 0.001" if p < 0.001 else format_score(p)


def state_p(p: float) -> str:
    """Write a p value into a sentence, `p = 0.012` or `p < 0.001`."""
    written = format_p(p)
    return f"p {written}" if written.startswith("<") else f"p = {written}"


def format_summary(mean: float, sd: float, low: float, high: float, *, decimals: int = 3) -> str:
    """Format mean, standard deviation and interval, `0.812 ± 0.153 [0.795, 0.829]`."""
    interval = format_interval(mean, low, high, decimals=decimals)
    return interval if np.isnan(sd) else interval.replace(" ", f" ± {sd:.{decimals}f} ", 1)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
