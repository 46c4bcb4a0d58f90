"""report.html: a run's answer, tables, figures and images in one file that needs no network."""

import base64
import json
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.data.phases import Phases
from busi_tune.results.closing import closing_lines, closing_rows, find_leader, read_closing
from busi_tune.results.html.failures import list_failures
from busi_tune.results.html.headline import describe_kfold, describe_search
from busi_tune.results.html.sections import KFOLD, SEARCH, describe_figure, find_items
from busi_tune.results.html.viewer import collect_pictures, describe_images, find_thresholds
from busi_tune.results.pages import search_tables, winner
from busi_tune.results.read import KfoldRun, SearchRun
from busi_tune.run_directory import read_json, write_atomic

_MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}


def write_html(run: KfoldRun | SearchRun, images: ImageSet | None) -> None:
    """Write report.html from a run's tables, figures and predictions, which are there already.

    Args:
        run: the run, with at least one finished training.
        images: its images; None leaves out the pictures, not their rows.
    """
    folder = Path(__file__).parent
    answer = _answer_kfold(run) if isinstance(run, KfoldRun) else _answer_search(run)
    page = _environment().get_template("report.html.j2").render(
        **answer,
        style=Markup((folder / "report.css").read_text()),
        script=Markup((folder / "report.js").read_text()),
        sections=_read_sections(run),
        failures=list_failures(run),
        about=_describe_run(run.folder),
        **_read_images(run, images),
    )  # fmt: skip
    write_atomic(run.folder / run_directory.REPORT, page + "\n")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("busi_tune.results.html", "."),
        autoescape=select_autoescape(["j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _answer_kfold(run: KfoldRun) -> dict[str, Any]:
    models, pairs = read_closing(run.folder)
    return {
        "kind": "Cross-validation" if len(run.folds) > 1 else "Training",
        "headline": describe_kfold(models, pairs),
        "leader": find_leader(models),
        "answer": closing_lines(models, pairs),
        "summary": closing_rows(models, pairs),
    }


def _answer_search(run: SearchRun) -> dict[str, Any]:
    return {
        "kind": "Search",
        "headline": describe_search(run),
        "answer": winner.closing_lines(run),
        "summary": search_tables.console_rows(run),
    }


def _read_sections(run: KfoldRun | SearchRun) -> list[dict[str, Any]]:
    sections = []
    for section in KFOLD if isinstance(run, KfoldRun) else SEARCH:
        items = [
            {"page": _render(file)} if kind == "page" else _embed(file)
            for kind, file in find_items(run.folder, section)
        ]
        if items:
            sections.append({"title": section.title, "items": items})
    return sections


def _render(page: Path) -> Markup:
    """Turn a Markdown page into HTML without its title; HTML in it is shown as text."""
    text = page.read_text().partition("\n")[2]
    shown = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    shown = shown.replace("<table>", '<div class="wide"><table>')
    return Markup(shown.replace("</table>", "</table></div>"))


def _embed(figure: Path) -> dict[str, str]:
    content = base64.b64encode(figure.read_bytes()).decode()
    source = f"data:{_MEDIA[figure.suffix]};base64,{content}"
    return {"source": source, "name": figure.stem, "text": describe_figure(figure.stem)}


def _read_images(run: KfoldRun | SearchRun, images: ImageSet | None) -> dict[str, Any]:
    rows = describe_images(run)
    pictures = None
    if rows and images is not None:
        with Phases() as show:
            found = collect_pictures(run, rows, images, lambda *count: show("report", *count))
        # Within a script element only `</` could end it, in whatever case.
        pictures = Markup(json.dumps(found, separators=(",", ":")).replace("<", "\\u003c"))
    which = "first repeat" if isinstance(run, KfoldRun) else "closed test part, first seed"
    models = list(find_thresholds(run))
    return {"rows": rows, "which": which, "models": models, "pictures": pictures}


def _describe_run(run_dir: Path) -> dict[str, Any]:
    """Read with what and where the run was made; a comparison of runs has no such record."""
    path = run_dir / run_directory.ENVIRONMENT
    environment = read_json(path) if path.exists() else {}
    packages = environment.pop("packages", {})
    flat = {**environment, **{f"{name}, version": version for name, version in packages.items()}}
    config = yaml.safe_load((run_dir / run_directory.CONFIG).read_text())
    return {"environment": flat, "config": yaml.safe_dump(config, sort_keys=False)}
