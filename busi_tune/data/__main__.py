"""The command `python -m busi_tune.data`: check a folder, make the phantom set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from busi_tune.data.busi import Sample
    from busi_tune.data.duplicates import Pair


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; 0: done, 2: bad input."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Describe the subcommands."""
    parser = argparse.ArgumentParser(
        prog="python -m busi_tune.data", description="Look at or make a folder of images."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_check(commands)
    add_duplicates(commands)
    add_audit(commands)
    add_nnunet(commands)
    add_phantom(commands)
    return parser


def add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `check`."""
    check = commands.add_parser(
        "check",
        help="list everything that is wrong with a folder of images",
        description="List everything that is wrong with a folder of images, each with file, cause "
        "and remedy. Exit code 0: no errors (warnings at most), 2: errors.",
    )
    add_root(check)
    check.set_defaults(run=run_check)


def add_duplicates(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `duplicates`."""
    duplicates = commands.add_parser(
        "duplicates",
        help="group images of the same scan and neighbouring frames of the same lesion",
        description="Group images of the same scan (cropped, shifted, scaled, annotated, exported "
        "anew) and neighbouring frames of the same lesion. Writes groups.csv (image, group; what "
        "data.groups takes), beside it pairs.csv (every pair with score and level) and a contact "
        "sheet, the most doubtful groups first. Says which pairs differ in class or mask. Exit "
        "code 0: done, 1: done, but a group is too large to be believed, 2: bad input.",
    )
    add_root(duplicates)
    duplicates.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the CSV of groups to write"
    )
    duplicates.set_defaults(run=run_duplicates)


def add_audit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `audit`."""
    audit = commands.add_parser(
        "audit",
        help="count the test images of a split that have a twin in training",
        description="Count the test images of anybody's splits that have a twin in training, per "
        "fold and in all, and name the pairs.",
    )
    add_root(audit)
    audit.add_argument(
        "--splits",
        type=Path,
        required=True,
        metavar="FILE",
        help="a run's splits.json, nnU-Net's splits_final.json, or a CSV with the columns image "
        "and fold (numbers, or train, validation and test)",
    )
    audit.set_defaults(run=run_audit)


def add_nnunet(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `nnunet`."""
    nnunet = commands.add_parser(
        "nnunet",
        help="write images and folds for nnU-Net v2, to compare it on the same folds",
        description="Write images, united masks and the folds of a run as the dataset "
        "Dataset<id>_<name> of nnU-Net v2, with names that it can take (names.csv has both). "
        "nnU-Net knows two parts: its train holds our training and validation part, its val is our "
        "test fold, so leave --val_best out. Copy splits_final.json to "
        "nnUNet_preprocessed/Dataset<id>_<name> after nnUNetv2_plan_and_preprocess. python -m "
        "busi_tune.report RUN --nnunet NAME=FOLDER reads the results back.",
    )
    nnunet.add_argument("path", metavar="PATH", type=Path, help="folder of the images of the run")
    nnunet.add_argument("out", metavar="OUT", type=Path, help="nnUNet_raw; made if it is missing")
    nnunet.add_argument(
        "--splits", type=Path, required=True, metavar="FILE", help="splits.json of a kfold run"
    )
    nnunet.add_argument(
        "--repeat", type=int, default=0, help="whose folds: nnU-Net takes those of one (default: 0)"
    )
    nnunet.add_argument(
        "--dataset_id", type=int, default=501, help="number of the dataset (default: 501)"
    )
    nnunet.add_argument("--name", default="BUSI", help="name of the dataset (default: BUSI)")
    nnunet.set_defaults(run=run_nnunet)


def add_root(command: argparse.ArgumentParser) -> None:
    """Describe the folder of images and its classes."""
    command.add_argument(
        "path",
        metavar="PATH",
        type=Path,
        help="folder in BUSI's layout (benign/, malignant/, normal/: x.png, x_mask.png, "
        "x_mask_1.png) or images/ + masks/ with equal names and an optional metadata.csv "
        "(columns image, class, group)",
    )
    command.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="look at these classes only, as with data.classes (default: all)",
    )


def add_phantom(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `phantom`."""
    phantom = commands.add_parser(
        "phantom",
        help="make synthetic breast ultrasound in BUSI's layout",
        description="Make synthetic breast ultrasound in BUSI's layout, the same for one seed.",
    )
    phantom.add_argument("out", metavar="OUT", type=Path, help="new or empty folder")
    phantom.add_argument(
        "--num_images", type=int, default=120, help="images in all, at least 3 (default: 120)"
    )
    phantom.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
    phantom.add_argument(
        "--sheet", type=Path, metavar="FILE", help="also draw a contact sheet with outlines, a PNG"
    )
    phantom.set_defaults(run=run_phantom)


def run_check(options: argparse.Namespace) -> int:
    """Print the problems of a folder, errors last, and their number."""
    from busi_tune.data.check import check_folder  # numpy and pillow: not for --help

    problems = check_folder(options.path, options.classes)
    problems.sort(key=lambda problem: problem.severity == "error")
    for problem in problems:
        print(problem)
    num_errors = sum(problem.severity == "error" for problem in problems)
    print(f"{options.path}: {num_errors} errors, {len(problems) - num_errors} warnings")
    return 2 if num_errors else 0


def run_duplicates(options: argparse.Namespace) -> int:
    """Find and write groups and pairs, draw them, and say what contradicts itself."""
    from busi_tune.data.busi import find_samples  # OpenCV, scipy: not for --help
    from busi_tune.data.duplicate_report import (
        compare_notes,
        describe_ceiling,
        describe_contradictions,
        describe_groups,
        write_groups,
        write_pairs,
    )
    from busi_tune.data.duplicates import find_alarms, group_images
    from busi_tune.data.group_sheet import draw_groups

    paths = (options.out, options.out.with_name("pairs.csv"), options.out.with_suffix(".png"))
    if len(set(paths)) < 3:
        raise ValueError(f"--out must be a CSV of another name than pairs.csv, got {options.out}")
    samples = find_samples(options.path, options.classes)
    pairs = find_or_load_pairs(samples)
    groups = group_images([sample.name for sample in samples], pairs)
    comparisons = compare_notes(samples, pairs)
    write_groups(paths[0], groups)
    write_pairs(paths[1], comparisons)
    draw_groups(paths[2], samples, groups, pairs)
    for line in (*describe_contradictions(comparisons), *describe_groups(groups, pairs)):
        print(line)
    print(describe_ceiling(comparisons))
    print(f"groups {paths[0]}, pairs {paths[1]}, contact sheet {paths[2]}")
    alarms = find_alarms(groups, pairs)
    for alarm in alarms:
        print(f"alarm: {alarm}", file=sys.stderr)
    return 1 if alarms else 0


def run_audit(options: argparse.Namespace) -> int:
    """Print the pairs that a split separates, then the counts."""
    from busi_tune.data.audit import describe_leaks, find_leaks, read_folds
    from busi_tune.data.busi import find_samples

    samples = find_samples(options.path, options.classes)
    folds = read_folds(options.splits, [sample.name for sample in samples])
    leaks = find_leaks(folds, find_or_load_pairs(samples))
    for leak in leaks:
        print(f"{leak.fold}: {leak.image} has {leak.twin} in training ({leak.level})")
    for line in describe_leaks(folds, leaks):
        print(line)
    if leaks:
        print(
            "folds without such twins: python -m busi_tune.kfold draws them (data.groups auto); "
            "the groups for other software: python -m busi_tune.data duplicates"
        )
    else:
        print("no test image has a near-duplicate in training")
    return 0


def find_or_load_pairs(samples: "Sequence[Sample]") -> "list[Pair]":
    """Find the near-duplicates of a folder, with progress, or read them where that was done."""
    from busi_tune.config import DataConfig
    from busi_tune.data.cache import cache_folder, hash_samples, join_hashes
    from busi_tune.data.groups import load_pairs
    from busi_tune.data.phases import Phases

    data_hash = join_hashes(hash_samples(samples).values())
    with Phases(shortest=0) as progress:
        return load_pairs(samples, data_hash, cache_folder(DataConfig()), progress)


def run_nnunet(options: argparse.Namespace) -> int:
    """Write the dataset and say what to do with it."""
    from busi_tune.data.nnunet import write_nnunet  # numpy and pillow: not for --help

    dataset = write_nnunet(
        options.path,
        options.out,
        options.splits,
        repeat=options.repeat,
        dataset_id=options.dataset_id,
        name=options.name,
    )
    print(f"dataset {dataset}; names of images and cases: {dataset / 'names.csv'}")
    print(
        f"export nnUNet_raw={options.out.absolute()}; nnUNetv2_plan_and_preprocess -d "
        f"{options.dataset_id}; copy {dataset / 'splits_final.json'} to nnUNet_preprocessed/"
        f"{dataset.name}; nnUNetv2_train {options.dataset_id} 2d FOLD for each fold"
    )
    return 0


def run_phantom(options: argparse.Namespace) -> int:
    """Write the phantom set and, where asked for, its contact sheet."""
    from busi_tune.data.phantom import write_phantom  # scipy: not for --help

    write_phantom(options.out, options.num_images, options.seed)
    print(f"{options.num_images} images in {options.out}")
    if options.sheet:
        from busi_tune.data.sheet import draw_sheet

        draw_sheet(options.out, options.sheet)
        print(f"contact sheet {options.sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
