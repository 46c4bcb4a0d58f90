"""Tables, figures and page of a run, from its files alone: python -m busi_tune.report DIR."""

import argparse
import logging
import sys
from pathlib import Path

from busi_tune import run_directory
from busi_tune.command_line import BAD_INPUT, DONE, start_logging
from busi_tune.config import Config
from busi_tune.flags import load_settings
from busi_tune.settings import override

logger = logging.getLogger(__name__)

DESCRIPTION = """Make the tables, the figures and report.html of a run again, without training.

report.html is a single file that needs no network: the answer, the tables, the figures and every
test image with its outlines. The images are read for pictures only; where they are not at hand,
those are left out.
Examples:
  python -m busi_tune.report runs/kfold-20260101-120000
  python -m busi_tune.report runs/kfold-20260101-120000 --no_images   (a page to pass on)
  python -m busi_tune.report runs/unet --compare runs/fpn runs/manet
  python -m busi_tune.report runs/unet --nnunet nnunet=nnUNet_results/Dataset501_BUSI/TRAINER

Exit codes: 0 done, 2 bad input."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    options = build_parser().parse_args(arguments)
    start_logging()
    try:
        if options.nnunet:
            add_nnunet(options.run_dir, options.nnunet)
        if options.compare:
            write_compared([options.run_dir, *options.compare])
        else:
            write_report(options.run_dir, options.data_root, not options.no_images)
    except (ValueError, OSError) as error:
        print(f"busi_tune report: error: {error}", file=sys.stderr)
        return BAD_INPUT
    return DONE


def build_parser() -> argparse.ArgumentParser:
    """Describe the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m busi_tune.report",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, help="folder of a search, kfold or train run")
    parser.add_argument("--data_root", help="folder of the images, if they were moved")
    parser.add_argument(
        "--no_images",
        action="store_true",
        help="leave out whatever shows an image, for a small page or data that must not leave",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="set the models of these runs beside run_dir's, in run_dir/comparisons; refused, with "
        "the differences, where other images, folds or rules of scoring make that no comparison",
    )
    parser.add_argument(
        "--nnunet",
        metavar="NAME=FOLDER",
        help="add an nnU-Net that was trained on the folds of this run (python -m busi_tune.data "
        "nnunet) as the model NAME, to this and every later report; FOLDER is its trainer's, with "
        "fold_0/validation/summary.json and so on",
    )
    return parser


def write_report(run_dir: Path, data_root: str | None = None, show_images: bool = True) -> None:
    """Write tables/, figures/ and report.html of a run directory.

    Raises:
        ValueError: the folder is no run directory.
    """
    config = override(Config(), load_settings(_find_config(run_dir)))
    if data_root:
        config.data.root = data_root
    from busi_tune.data.cache import load_images
    from busi_tune.data.phases import Phases
    from busi_tune.results.write import write_results

    images = None
    if show_images:
        try:
            with Phases() as progress:
                images = load_images(config.data, progress)
        except (ValueError, OSError) as error:
            logger.warning("no pictures, the images cannot be read: %s", error)
    write_results(run_dir, images)
    logger.info("open %s", run_dir / run_directory.REPORT)


def write_compared(run_dirs: list[Path]) -> None:
    """Write tables and figures of several runs' models, and show the closing table.

    Raises:
        ValueError: a folder is no run, or the runs do not compare.
    """
    for run_dir in run_dirs:
        _find_config(run_dir)
    from busi_tune.jobs.console import print_lines, print_rows
    from busi_tune.results.compare import compare_runs
    from busi_tune.results.write import console_lines, console_rows, write_comparison

    folder = compare_runs(run_dirs)
    write_comparison(folder)
    print_rows(console_rows(folder))
    print_lines(console_lines(folder))
    logger.info("tables and figures: %s", folder)


def add_nnunet(run_dir: Path, named: str) -> None:
    """Keep the results of an nnU-Net in a run directory.

    Args:
        run_dir: the run on whose folds it was trained.
        named: NAME=FOLDER.

    Raises:
        ValueError: it is not of this form, or the results are not of this run's folds.
    """
    name, equals, folder = named.partition("=")
    if not (name and equals and folder):
        raise ValueError(f"--nnunet must be NAME=FOLDER, got {named}")
    _find_config(run_dir)
    from busi_tune.results.external import import_nnunet

    logger.info("%s: %s", name, import_nnunet(run_dir, name, Path(folder)))


def _find_config(run_dir: Path) -> Path:
    stored = run_dir / run_directory.CONFIG
    if not stored.exists():
        raise ValueError(f"{run_dir} is no run directory: it has no {run_directory.CONFIG}")
    return stored


if __name__ == "__main__":
    sys.exit(main())
