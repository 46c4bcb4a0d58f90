"""Masks of new images by the networks of a run: python -m busi_tune.predict."""

import argparse
import sys
from pathlib import Path

from busi_tune.command_line import BAD_INPUT, CLUSTER_FAILED, DONE, INTERRUPTED, start_logging
from busi_tune.full_disk import describe_full_disk, find_full_disk

DESCRIPTION = """Predict new images with the trained networks of a run, averaged.

--run takes a kfold run (the networks of all folds of one model), a train run (its network), a
search (the refits of its winner) or an export. --images takes a folder of PNG and JPEG files of any
size; in BUSI's layout, or as images/ + masks/, it is also scored, as external validation.

Written to OUT, all at the images' own sizes:
  masks/NAME.png          lesion 255, background 0
  probabilities/NAME.png  round(255 p)
  overlays/NAME.png       the lesion's outline in orange, the mask's in blue, on the image
  predictions.csv         areas in pixels, components, agreement: the mean Dice of each pair of
                          networks' own masks, with a warning where it is below 0.7
  scores.csv, tables/     with masks: Dice, IoU, HD95, NSD of each image, means with intervals

Bad files (truncated, damaged, of another format, decompression bombs) are refused before anything
is written, as by python -m busi_tune.data check. Examples:
  python -m busi_tune.predict --run runs/kfold-1 --images new --out predicted
  python -m busi_tune.predict --run runs/kfold-1 --model unet --images new --out predicted --flips
  python -m busi_tune.predict --run runs/search-1 --images OTHER_HOSPITAL --out external

Exit codes: 0 done, 2 bad input, 3 the disk is full, 130 interrupted."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    options = build_parser().parse_args(arguments)
    start_logging()
    try:
        run(options)
    except KeyboardInterrupt:
        message, code = f"interrupted; what is in {options.out} is whole, but not all", INTERRUPTED
    except (ValueError, OSError) as error:
        full = find_full_disk(error)
        code = CLUSTER_FAILED if full else BAD_INPUT
        message = f"error: {describe_full_disk(full, options.out) if full else error}"
    else:
        return DONE
    print(f"busi_tune predict: {message}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Describe the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m busi_tune.predict",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="run directory, or an export"
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of the images"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder for the results"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="of a run of several models the one to take (default: the run's leader, as is said)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability from which a pixel is lesion (default: the run's training.threshold)",
    )
    parser.add_argument(
        "--flips",
        action="store_true",
        help="average also over the flips that training had: left-right where "
        "augment.horizontal_flip was above 0, top-bottom where augment.vertical_flip was; takes "
        "two or four times as long",
    )
    parser.add_argument(
        "--skip_bad", action="store_true", help="leave bad images out, named, instead of refusing"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute; auto takes a GPU that there is (default)",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Check what needs no images, then do it; its imports would make `--help` wait.

    Raises:
        ValueError: the threshold is none.
    """
    if options.threshold is not None and not 0 < options.threshold < 1:
        raise ValueError(f"--threshold must be between 0 and 1, not {options.threshold}")
    from busi_tune.jobs.predict import Request, predict_folder

    predict_folder(Request(**vars(options)))


if __name__ == "__main__":
    sys.exit(main())
