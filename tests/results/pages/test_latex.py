import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from busi_tune.results.pages.latex import MAX_ROWS, escape, to_paragraph
from busi_tune.results.pages.tables import Table, write_page
from busi_tune.results.write import write_results

needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="pdflatex is not installed; see .ci/run"
)


def compile_pages(pages: list[Path], folder: Path) -> str:
    """Compile a document of these pages; return the log of the second run."""
    inputs = "\n\n".join(rf"\input{{{page}}}" for page in pages)
    (folder / "document.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        f"\n{inputs}\n" + r"\end{document}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "document.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@needs_latex
@pytest.mark.usefixtures("blank_figures")
def test_every_page_of_a_run_compiles(kfold_run: Path, search_run: Path, tmp_path: Path) -> None:
    for run in (kfold_run, search_run):
        write_results(run, None)
    pages = [page for run in (kfold_run, search_run) for page in sorted(run.glob("tables/*.tex"))]
    assert len(pages) == len([*kfold_run.glob("tables/*.md"), *search_run.glob("tables/*.md")])
    log = compile_pages(pages, tmp_path)
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(too_wide, default=0) < 10
    assert "undefined" not in log


@needs_latex
def test_whatever_a_page_holds_compiles(tmp_path: Path) -> None:
    characters = (
        "".join(map(chr, range(32, 127)))
        + "±≤≥≈→Δµ…—äéß\N{EN DASH}\N{MINUS SIGN}\N{NO-BREAK SPACE}"
    )
    rows = pd.DataFrame({characters: [characters, "[0, 1]", "*"], "n": [1, 2, 3]})
    long = pd.DataFrame({"number": range(2 * MAX_ROWS + 1)})
    wide = pd.DataFrame([{f"column {number}": "0.717 ± 0.279" for number in range(30)}] * 3)
    sections: list[str | Table] = [
        f"## {characters}", characters, "- one\n- [two]", "**bold.** plain `a_b`",
        *(Table(characters, table) for table in (rows, long, wide, rows.head(0))),
    ]  # fmt: skip
    write_page(tmp_path, "page_1", characters, sections)
    compile_pages([tmp_path / "page_1.tex"], tmp_path)


def test_special_characters_are_printed_as_they_are() -> None:
    assert escape("50 % of a_b & c#1 {x}") == r"50 \% of a\_b \& c\#1 \{x\}"
    assert escape("0.5 ± 0.1") == r"0.5 \(\pm\) 0.1"
    assert escape("p < 0.05") == r"p \textless{} 0.05"
    assert escape("a\\b") == r"a\textbackslash{}b"
    assert escape("[-0.2, 0.1] of a-1") == r"[\(-\)0.2, 0.1] of a-1"
    assert escape("---data.root") == "-{}-{}-data.root"


def test_lists_and_parts_in_bold_or_code_become_latex() -> None:
    assert to_paragraph("**Data.** `a_b`") == r"\textbf{Data.} \texttt{a\_\allowbreak{}b}"
    assert to_paragraph("## A & b") == r"\paragraph{A \& b}"
    assert to_paragraph("- a\n- b") == ("\\begin{itemize}\n\\item{} a\n\\item{} b\n\\end{itemize}")


def test_a_table_longer_than_a_page_is_continued(tmp_path: Path) -> None:
    write_page(tmp_path, "page", "p", [Table("c", pd.DataFrame({"n": range(MAX_ROWS + 1)}))])
    latex = (tmp_path / "page.tex").read_text()
    assert latex.count(r"\begin{table}") == latex.count(r"\midrule") == 2
    assert latex.count(r"\label{tab:page-1}") == 1
    assert r"Table~\ref{tab:page-1}, continued." in latex


def test_a_wide_table_is_set_in_blocks_that_repeat_its_keys(tmp_path: Path) -> None:
    wide = {f"column {number}": ["0.717 ± 0.279"] for number in range(12)}
    rows = pd.DataFrame({"Model": ["unet"], "Fold": [0], **wide})
    write_page(tmp_path, "page", "p", [Table("c", rows, keys=2)])
    latex = (tmp_path / "page.tex").read_text()
    assert latex.count(r"\begin{table}") == 1
    assert latex.count("Model & Fold & column") == latex.count(r"\begin{tabular}{lrllll}") == 3
    for number in range(12):
        assert latex.count(f"column {number} ") == 1
