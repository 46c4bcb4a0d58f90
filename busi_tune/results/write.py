"""All tables and figures of a run directory, and the page of them all."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from busi_tune import run_directory

if TYPE_CHECKING:
    import pandas as pd

    from busi_tune.data.cache import ImageSet
    from busi_tune.data.splits import Split
    from busi_tune.results.calibrated import Calibrated
    from busi_tune.results.read import KfoldRun, SearchRun

logger = logging.getLogger(__name__)


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
    from busi_tune.results.read import KfoldRun, read_run

    run = read_run(run_dir)
    # Other images than the run's are refused before anything is drawn.
    splits = load_splits(run_dir / run_directory.SPLITS, images) if images else {}
    if isinstance(run, KfoldRun) and not run.models:
        logger.warning("no tables and no figures: no training has finished")
        return
    with house_style():
        _write_from_files(run)
        if images is None:
            logger.warning("no overlays and no augmented samples: the images are not at hand")
        else:
            _write_from_images(run, images, next(iter(splits.values())))
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
        _write_from_files(run)
    write_html(run, None)


def _write_from_files(run: "KfoldRun | SearchRun") -> None:
    from busi_tune.results.read import SearchRun

    if isinstance(run, SearchRun):
        _write_search(run)
    else:
        _write_kfold(run)


def _write_search(run: "SearchRun") -> None:
    from busi_tune.results.figures.pareto import write_pareto_figure
    from busi_tune.results.figures.search_budget import write_search_budget
    from busi_tune.results.figures.search_curves import write_search_curves
    from busi_tune.results.figures.search_settings import write_search_settings
    from busi_tune.results.pages.pareto import write_pareto
    from busi_tune.results.pages.search_tables import write_search_tables
    from busi_tune.results.pages.winner import write_winner

    write_search_tables(run)
    write_winner(run)
    write_pareto(run)
    write_search_curves(run)
    write_search_budget(run)
    write_search_settings(run)
    write_pareto_figure(run)


def _write_kfold(run: "KfoldRun") -> None:
    from busi_tune.results.calibrated import read_calibrated
    from busi_tune.results.figures.curves import write_model_curves

    if run.images.empty:
        logger.info("no tables: every image trained, none was tested")
        write_model_curves(run)
        return
    calibrated = read_calibrated(run)
    compared = _write_kfold_tables(run, calibrated)
    write_model_curves(run)
    if run.images["has_lesion"].any():
        _write_kfold_figures(run, compared, calibrated)


def _write_kfold_tables(
    run: "KfoldRun", calibrated: "Sequence[Calibrated]"
) -> "pd.DataFrame | None":
    """Return the paired differences of the models, as the figure of them needs them."""
    from busi_tune.results.pages import (
        audit,
        calibration,
        conventions,
        kfold_tables,
        methods,
        nested,
        operating_point,
        pairs,
        report_protocol,
        subgroups,
    )

    models = kfold_tables.write_kfold_tables(run)
    compared = pairs.write_pairs(run, models)
    subgroups.write_subgroups(run)
    if (run.folder / run_directory.AUDIT).exists():
        audit.write_audit(run.folder)
    report_protocol.write_report_protocol(run)
    conventions.write_conventions(run)
    operating_point.write_operating_point(run)
    calibration.write_calibration(run, calibrated)
    nested.write_nested(run)
    methods.write_methods(run)
    return compared


def _write_kfold_figures(
    run: "KfoldRun", compared: "pd.DataFrame | None", calibrated: "Sequence[Calibrated]"
) -> None:
    from busi_tune.results.figures import comparisons, differences, reliability, sizes, thresholds

    comparisons.write_comparisons(run)
    if compared is not None:
        differences.write_differences(run, compared)
    sizes.write_sizes(run)
    thresholds.write_thresholds(run)
    reliability.write_reliability(run, calibrated)


def _write_from_images(run: "KfoldRun | SearchRun", images: "ImageSet", split: "Split") -> None:
    from busi_tune.results.figures import augmented, galleries, overlays
    from busi_tune.results.pages import ensemble
    from busi_tune.results.read import KfoldRun

    if isinstance(run, KfoldRun) and not run.images.empty:
        overlays.write_overlays(run, images)
        galleries.write_galleries(run, images)
        ensemble.write_ensemble(run, images)
    augmented.write_augmented(run, images, split)


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
