"""Text and tables as LaTeX, for a document that uses booktabs and graphicx."""

import re
from collections.abc import Sequence
from itertools import pairwise

MAX_ROWS = 40
"""Rows of a table that fit a page together with its caption; longer ones are continued."""
MAX_WIDTH = 100
"""Characters of a table's line, shrunk to three quarters where the document is narrow."""

# At its own size where it fits the line, shrunk to the line where it does not.
_FIT = r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%"

_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "±": r"\(\pm\)", "≤": r"\(\leq\)", "≥": r"\(\geq\)", "≈": r"\(\approx\)", "→": r"\(\to\)",
    "Δ": r"\(\Delta\)", "µ": r"\(\mu\)", "†": r"\(\dagger\)", "…": r"\ldots{}", "—": "---",
    "\N{EN DASH}": "--", "\N{MINUS SIGN}": r"\(-\)", "\N{MULTIPLICATION SIGN}": r"\(\times\)",
    "\N{GREEK SMALL LETTER ALPHA}": r"\(\alpha\)", "\N{GREEK SMALL LETTER SIGMA}": r"\(\sigma\)",
    "\N{NO-BREAK SPACE}": "~",
    **{character: f"\\{character}" for character in "&%$#_{}"},
})  # fmt: skip


def escape(text: str) -> str:
    """Write plain text so that LaTeX prints it as it is; `--` stays two hyphens.

    The hyphen before a number becomes a minus sign, from which no line can part it.
    """
    text = re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub("-(?=-)", "-\0", text).translate(_SPECIAL).replace("\0", "{}")


def to_paragraph(text: str) -> str:
    """Write a Markdown paragraph, list or heading (`## `) with its `code` and **bold** parts."""
    if text.startswith("## "):
        return rf"\paragraph{{{_inline(text[3:])}}}"
    if text.startswith("- "):
        items = [rf"\item{{}} {_inline(item)}" for item in re.split(r"\n- ", text[2:])]
        return "\n".join([r"\begin{itemize}", *items, r"\end{itemize}"])
    return _inline(text)


def to_tables(
    caption: str,
    label: str,
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    num_keys: int,
) -> str:
    """Write a table as a float, or as several where it is longer than a page.

    A table that is too wide is set in blocks of columns, one below the other.

    Args:
        caption: a Markdown paragraph.
        label: of the first float.
        rows: cells of plain text, the headings first.
        numeric: for each column, whether its cells stand to the right.
        num_keys: leading columns that every block repeats.
    """
    heading, *body = rows
    blocks = _split_columns(rows, num_keys)
    num_rows = max(1, MAX_ROWS // len(blocks))
    parts = [body[start : start + num_rows] for start in range(0, len(body), num_rows)] or [[]]
    floats = []
    for number, part in enumerate(parts):
        captions = [rf"\caption{{{_inline(caption)}}}", rf"\label{{{label}}}"]
        if number:
            captions = [rf"Table~\ref{{{label}}}, continued.\par"]
        tabulars = [_tabular([heading, *part], numeric, block) for block in blocks]
        lines = [r"\begin{table}[htbp]", r"\centering", r"\small", *captions, *tabulars]
        floats.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(floats)


def _split_columns(rows: Sequence[Sequence[str]], num_keys: int) -> list[list[int]]:
    """Share the columns evenly among as many blocks as their width needs, each with the keys."""
    widths = [max(len(cell) for cell in column) + 2 for column in zip(*rows, strict=True)]
    for_keys = sum(widths[:num_keys])
    num_blocks, filled = 1, for_keys
    for width in widths[num_keys:]:
        if filled > for_keys and filled + width > MAX_WIDTH:
            num_blocks, filled = num_blocks + 1, for_keys
        filled += width
    others = range(num_keys, len(widths))
    ends = [round(number * len(others) / num_blocks) for number in range(num_blocks + 1)]
    return [[*range(num_keys), *others[start:end]] for start, end in pairwise(ends)]


def _tabular(rows: Sequence[Sequence[str]], numeric: Sequence[bool], columns: Sequence[int]) -> str:
    alignment = "".join("r" if numeric[column] else "l" for column in columns)
    heading, *body = [" & ".join(_cell(row[column]) for column in columns) + r" \\" for row in rows]
    beginning = [r"\par\smallskip", _FIT, rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    ending = [r"\bottomrule", r"\end{tabular}}"]
    return "\n".join([*beginning, heading, r"\midrule", *body, *ending])


def _cell(text: str) -> str:
    # After the end of a row, a bracket or a star would be taken as its argument.
    return re.sub(r"^([\[*])", r"{\1}", escape(text))


def _inline(text: str) -> str:
    written = []
    for part in re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text):
        if part.startswith("`") and len(part) > 1:
            written.append(rf"\texttt{{{escape(part[1:-1])}}}")
        elif part.startswith("**") and len(part) > 4:
            written.append(rf"\textbf{{{escape(part[2:-2])}}}")
        else:
            written.append(escape(part))
    # Names of many words would stand out of the line.
    return "".join(written).replace(r"\_", r"\_\allowbreak{}")
