"""Tables and figures of a run, from its files alone: python -m busi_tune.report DIR."""

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

DESCRIPTION = """Make the tables and figures of a run again, without training.

The images are read for the overlays only; where they are not at hand, those are left out.
Example: python -m busi_tune.report runs/kfold-20260101-120000"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m busi_tune.report",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, help="folder of a search, kfold or train run")
    parser.add_argument("--data_root", help="folder of the images, if they were moved")
    options = parser.parse_args(arguments)
    start_logging()
    try:
        write_report(options.run_dir, options.data_root)
    except (ValueError, OSError) as error:
        print(f"busi_tune report: error: {error}", file=sys.stderr)
        return BAD_INPUT
    return DONE


def write_report(run_dir: Path, data_root: str | None = None) -> None:
    """Write tables/ and figures/ of a run directory.

    Raises:
        ValueError: the folder is no run directory.
    """
    stored = run_dir / run_directory.CONFIG
    if not stored.exists():
        raise ValueError(f"{run_dir} is no run directory: it has no {run_directory.CONFIG}")
    config = override(Config(), load_settings(stored))
    if data_root:
        config.data.root = data_root
    from busi_tune.data.cache import load_images
    from busi_tune.results.write import write_results

    try:
        images = load_images(config.data)
    except (ValueError, OSError) as error:
        logger.warning("no overlays, the images cannot be read: %s", error)
        images = None
    write_results(run_dir, images)


if __name__ == "__main__":
    sys.exit(main())
