"""Text and tables as LaTeX, for a document that uses booktabs and graphicx."""

import re
from collections.abc import Sequence

MAX_ROWS = 40
"""Rows of a table that fit a page together with its caption; longer ones are continued."""

# At its own size where it fits the line, shrunk to the line where it does not.
_FIT = r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%"

_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "±": r"\(\pm\)", "≤": r"\(\leq\)", "≥": r"\(\geq\)", "≈": r"\(\approx\)", "→": r"\(\to\)",
    "Δ": r"\(\Delta\)", "µ": r"\(\mu\)", "…": r"\ldots{}", "—": "---",
    "\N{EN DASH}": "--", "\N{MINUS SIGN}": r"\(-\)", "\N{MULTIPLICATION SIGN}": r"\(\times\)",
    "\N{GREEK SMALL LETTER ALPHA}": r"\(\alpha\)", "\N{GREEK SMALL LETTER SIGMA}": r"\(\sigma\)",
    "\N{NO-BREAK SPACE}": "~",
    **{character: f"\\{character}" for character in "&%$#_{}"},
})  # fmt: skip


def escape(text: str) -> str:
    """Write plain text so that LaTeX prints it as it is; `--` stays two hyphens."""
    return text.replace("--", "-\0-").translate(_SPECIAL).replace("\0", "{}")


def to_paragraph(text: str) -> str:
    """Write a Markdown paragraph, list or heading (`## `) with its `code` and **bold** parts."""
    if text.startswith("## "):
        return rf"\paragraph{{{_inline(text[3:])}}}"
    if text.startswith("- "):
        items = [rf"\item{{}} {_inline(item)}" for item in re.split(r"\n- ", text[2:])]
        return "\n".join([r"\begin{itemize}", *items, r"\end{itemize}"])
    return _inline(text)


def to_tables(
    caption: str, label: str, rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> str:
    """Write a table as a float, or as several where it is longer than a page.

    Args:
        caption: a Markdown paragraph.
        label: of the first float.
        rows: cells of plain text, the headings first.
        numeric: for each column, whether its cells stand to the right.
    """
    assert len(numeric) > 0
    columns = "".join("r" if right else "l" for right in numeric)
    heading, *body = [" & ".join(_cell(cell) for cell in row) + r" \\" for row in rows]
    parts = [body[start : start + MAX_ROWS] for start in range(0, len(body), MAX_ROWS)] or [[]]
    floats = []
    for number, part in enumerate(parts):
        captions = [rf"\caption{{{_inline(caption)}}}", rf"\label{{{label}}}"]
        if number:
            captions = [rf"Table~\ref{{{label}}}, continued.\par\medskip"]
        floats.append("\n".join([
            r"\begin{table}[htbp]", r"\centering", r"\small", *captions, _FIT,
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", heading, r"\midrule", *part,
            r"\bottomrule", r"\end{tabular}}", r"\end{table}",
        ]))  # fmt: skip
    return "\n\n".join(floats)


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
    return "".join(written)
