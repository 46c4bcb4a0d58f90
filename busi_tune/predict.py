"""Masks of new images by the networks of a run, and their export: python -m busi_tune.predict."""

import argparse
import sys
from pathlib import Path

from busi_tune.command_line import (
    BAD_INPUT,
    CLUSTER_FAILED,
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    start_logging,
)
from busi_tune.full_disk import describe_full_disk, find_full_disk

DESCRIPTION = """Predict new images with the trained networks of a run, averaged.

--run takes a kfold run (the networks of all folds of one model), a train run (its network), a
search (the refits of its winner) or an export. --images takes a folder of PNG and JPEG files of any
size; in BUSI's layout, or as images/ + masks/, it is also scored, as external validation.

Written to OUT, all at the images' own sizes:
  masks/NAME.png          lesion 255, background 0
  probabilities/NAME.png  round(255 p)
  overlays/NAME.png       the lesion's outline in orange on the image, dashed over a mask's in blue
  predictions.csv         areas in pixels, components, agreement: the mean Dice of each pair of
                          networks' own masks, with a warning where it is below 0.7
  scores.csv, tables/     with masks: Dice, IoU, HD95, NSD of each image, means with intervals

Bad files (truncated, damaged, of another format, decompression bombs) are refused before anything
is written, as by python -m busi_tune.data check.

--export writes the networks themselves to OUT: weights as safetensors, config.yaml, protocol.json
and MODEL_CARD.md; with onnx also model.onnx, images (N, 1, S, S) in [0, 1] to averaged
probabilities, held to torch's output (pip install ".[onnx]"). Examples:
  python -m busi_tune.predict --run runs/kfold-1 --images new --out predicted
  python -m busi_tune.predict --run runs/kfold-1 --model unet --images new --out predicted --flips
  python -m busi_tune.predict --run runs/search-1 --images OTHER_HOSPITAL --out external
  python -m busi_tune.predict --run runs/kfold-1 --export onnx --out model
  python -m busi_tune.predict --run model --images new --out predicted

Exit codes: 0 done, 1 the exported ONNX model does not do what the networks do, 2 bad input, 3 the
disk is full, 130 interrupted."""


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
    except RuntimeError as error:
        if type(error).__name__ != "ExportError":
            raise
        message, code = f"error: {error}", SOME_FAILED
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
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder for the results"
    )
    add_choices(parser)
    return parser


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Describe the flags that can be left out."""
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
        "--export",
        choices=("safetensors", "onnx"),
        help="write the networks to OUT instead of predictions",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute; auto takes a GPU that there is (default)",
    )


def run(options: argparse.Namespace) -> None:
    """Check what needs no images, then do it; its imports would make `--help` wait.

    Raises:
        ValueError: the threshold is none, or neither or both of images and export are given.
    """
    if options.threshold is not None and not 0 < options.threshold < 1:
        raise ValueError(f"--threshold must be between 0 and 1, not {options.threshold}")
    wanted = dict(vars(options))
    export = wanted.pop("export")
    if (export is None) == (options.images is None):
        raise ValueError("give --images to predict them, or --export to write the networks")
    if export is None:
        from busi_tune.jobs.predict import Request, predict_folder

        predict_folder(Request(**wanted))
    else:
        _refuse_idle_flags(options)
        from busi_tune.jobs.export import export_model

        export_model(options.run, options.out, options.model, export == "onnx")


def _refuse_idle_flags(options: argparse.Namespace) -> None:
    """Refuse flags of predictions beside --export, which would leave them out without a word."""
    defaults = {"threshold": None, "flips": False, "skip_bad": False, "device": "auto"}
    idle = [f"--{name}" for name, value in defaults.items() if getattr(options, name) != value]
    if idle:
        raise ValueError(f"{', '.join(idle)} does nothing beside --export: leave it out")


if __name__ == "__main__":
    sys.exit(main())
