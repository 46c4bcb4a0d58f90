"""All tables and figures of a run directory, and the page of them all."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from busi_tune import run_directory

if TYPE_CHECKING:
    from busi_tune.data.cache import ImageSet
    from busi_tune.data.splits import Split
    from busi_tune.results.read import KfoldRun, SearchRun

logger = logging.getLogger(__name__)

Step = Callable[[], object]
"""Writes some of the tables and figures."""


def write_results(run_dir: Path, images: "ImageSet | None") -> None:
    """Write tables/, figures/ and report.html of a search, kfold or train run from its files.

    Doing it again gives the same files.

    Args:
        run_dir: the run's directory.
        images: the images of the run; None leaves out the figures that show any.

    Raises:
        ValueError: the directory holds no run, or the images are not the run's.
    """
    # The commands import this module before they know that their input is valid.
    from busi_tune.data.splits import load_splits
    from busi_tune.results.figures.style import house_style
    from busi_tune.results.html.page import write_html
    from busi_tune.results.pages.ensemble import write_ensemble
    from busi_tune.results.read import KfoldRun, read_run

    run = read_run(run_dir)
    # Other images than the run's are refused before anything is drawn.
    splits = load_splits(run_dir / run_directory.SPLITS, images) if images else {}
    if isinstance(run, KfoldRun) and not run.models:
        logger.warning("no tables and no figures: no training has finished")
        return
    steps = _steps_from_files(run)
    if images is None:
        logger.warning("no overlays and no augmented samples: the images are not at hand")
    else:
        steps += _steps_from_images(run, images, next(iter(splits.values())))
    with house_style():
        _take(steps)
        if images is not None and isinstance(run, KfoldRun) and not run.images.empty:
            write_ensemble(run, images)  # says itself how far it is
    if isinstance(run, KfoldRun) and run.images.empty:
        return  # every image trained: there is no answer to put on a page
    write_html(run, images)


def write_comparison(folder: Path) -> None:
    """Write tables/, figures/ and report.html of a comparison of runs, without images."""
    from busi_tune.results.figures.style import house_style
    from busi_tune.results.html.page import write_html
    from busi_tune.results.read import read_run

    run = read_run(folder)
    with house_style():
        _take(_steps_from_files(run))
    write_html(run, None)


def _take(steps: Sequence[Step]) -> None:
    """Take all steps, and show how many of them are taken."""
    from busi_tune.data.phases import Phases

    with Phases() as show:
        for done, step in enumerate(steps, start=1):
            step()
            show("tables and figures", done, len(steps))


def _steps_from_files(run: "KfoldRun | SearchRun") -> list[Step]:
    from busi_tune.results.read import SearchRun

    return _search_steps(run) if isinstance(run, SearchRun) else _kfold_steps(run)


def _search_steps(run: "SearchRun") -> list[Step]:
    from busi_tune.results.figures.pareto import write_pareto_figure
    from busi_tune.results.figures.search_budget import write_search_budget
    from busi_tune.results.figures.search_curves import write_search_curves
    from busi_tune.results.figures.search_settings import write_search_settings
    from busi_tune.results.pages.pareto import write_pareto
    from busi_tune.results.pages.search_tables import write_search_tables
    from busi_tune.results.pages.winner import write_winner

    writers = (
        write_search_tables,
        write_winner,
        write_pareto,
        write_search_curves,
        write_search_budget,
        write_search_settings,
        write_pareto_figure,
    )
    return [partial(write, run) for write in writers]


def _kfold_steps(run: "KfoldRun") -> list[Step]:
    from busi_tune.results.figures import comparisons, curves, sizes, thresholds
    from busi_tune.results.pages import (
        audit,
        conventions,
        methods,
        nested,
        operating_point,
        report_protocol,
        subgroups,
    )

    write_curves = partial(curves.write_model_curves, run)
    if run.images.empty:
        logger.info("no tables: every image trained, none was tested")
        return [write_curves]
    audited = (run.folder / run_directory.AUDIT).exists()
    steps: list[Step] = [
        partial(_write_models, run),
        partial(subgroups.write_subgroups, run),
        *([partial(audit.write_audit, run.folder)] if audited else []),
        partial(report_protocol.write_report_protocol, run),
        partial(conventions.write_conventions, run),
        partial(operating_point.write_operating_point, run),
        partial(_write_calibration, run),
        partial(nested.write_nested, run),
        partial(methods.write_methods, run),
        write_curves,
    ]
    if run.images["has_lesion"].any():
        figures = comparisons.write_comparisons, sizes.write_sizes, thresholds.write_thresholds
        steps += [partial(write, run) for write in figures]
    return steps


def _write_models(run: "KfoldRun") -> None:
    """Write the tables of models and of pairs, and the figure of the pairs' differences."""
    from busi_tune.results.figures.differences import write_differences
    from busi_tune.results.pages import kfold_tables, pairs

    compared = pairs.write_pairs(run, kfold_tables.write_kfold_tables(run))
    if compared is not None and run.images["has_lesion"].any():
        write_differences(run, compared)


def _write_calibration(run: "KfoldRun") -> None:
    from busi_tune.results.calibrated import read_calibrated
    from busi_tune.results.figures.reliability import write_reliability
    from busi_tune.results.pages.calibration import write_calibration

    calibrated = read_calibrated(run)
    write_calibration(run, calibrated)
    if run.images["has_lesion"].any():
        write_reliability(run, calibrated)


def _steps_from_images(
    run: "KfoldRun | SearchRun", images: "ImageSet", split: "Split"
) -> list[Step]:
    from busi_tune.results.figures import augmented, galleries, overlays
    from busi_tune.results.read import KfoldRun

    steps: list[Step] = []
    if isinstance(run, KfoldRun) and not run.images.empty:
        writers = overlays.write_overlays, galleries.write_galleries
        steps += [partial(write, run, images) for write in writers]
    return [*steps, partial(augmented.write_augmented, run, images, split)]


def console_rows(run_dir: Path) -> list[dict[str, str]]:
    """Return the rows of a run's closing table: its models, or its leading trials."""
    from busi_tune.results import closing
    from busi_tune.results.pages import search_tables
    from busi_tune.results.read import KfoldRun, read_run

    run = read_run(run_dir)
    if isinstance(run, KfoldRun):
        tested = not run.images.empty
        return closing.closing_rows(*closing.read_closing(run_dir)) if tested else []
    return search_tables.console_rows(run)


def console_lines(run_dir: Path) -> list[str]:
    """Return what may be said of a run's models or of a search's winner, a sentence a line."""
    from busi_tune.results import closing
    from busi_tune.results.pages import winner
    from busi_tune.results.read import SearchRun, read_run

    run = read_run(run_dir)
    if isinstance(run, SearchRun):
        return winner.closing_lines(run)

    if not (run_dir / run_directory.TABLES / "models.csv").exists():
        return []
    return closing.closing_lines(*closing.read_closing(run_dir))
