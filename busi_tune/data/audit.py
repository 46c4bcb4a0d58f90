"""Test images whose twin is in training: an audit of anybody's splits."""

import csv
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from busi_tune.data.busi import quote
from busi_tune.data.duplicates import Level, Pair, group_images, list_members
from busi_tune.data.nnunet import name_cases

ENDINGS = (".nii.gz", ".png", ".jpg", ".jpeg", ".nii", ".tif", ".tiff")
HOLDOUT = {"train", "validation", "val", "test"}
"""Names in the column fold that mean one split."""
CHANNEL = "_0000"
"""What nnU-Net appends to the names of images."""


@dataclass(frozen=True)
class Parts:
    """What a fold trains on and what it is tested on, by image name."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """A test image of which training has seen a twin."""

    fold: str
    image: str
    twin: str
    level: Level


def find_leaks(folds: Mapping[str, Parts], pairs: Sequence[Pair]) -> list[Leak]:
    """List every test image with each of its twins in training, fold by fold.

    Twins are connected by pairs, directly or by way of others; identical, if identical scans
    alone connect them.

    Args:
        folds: Parts of each fold.
        pairs: The near-duplicates of the whole set.
    """
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)})
    scans = group_images(names, [pair for pair in pairs if pair.level == "identical"])
    groups = group_images(names, pairs)
    members = list_members(groups)
    leaks = []
    for fold, parts in folds.items():
        seen = set(parts.train)
        for image in parts.test:
            for twin in members.get(groups.get(image, ""), ()):
                if twin != image and twin in seen:
                    level: Level = "identical" if scans[twin] == scans[image] else "neighbour"
                    leaks.append(Leak(fold, image, twin, level))
    return leaks


def describe_leaks(folds: Mapping[str, Parts], leaks: Iterable[Leak]) -> list[str]:
    """Count the test images with a twin in training, a line per fold and one for all."""
    leaks = list(leaks)
    rows = {
        fold: (len(parts.test), [leak for leak in leaks if leak.fold == fold])
        for fold, parts in folds.items()
    }
    if len(folds) > 1:
        rows["all"] = (sum(len(parts.test) for parts in folds.values()), leaks)
    lines = []
    for fold, (num_test, found) in rows.items():
        identical = {(leak.fold, leak.image) for leak in found if leak.level == "identical"}
        related = {(leak.fold, leak.image) for leak in found}
        shares = [f"{len(s)} ({len(s) / max(num_test, 1):.1%})" for s in (identical, related)]
        lines.append(
            f"{fold}: of {num_test} test images {shares[0]} have an identical scan in training, "
            f"{shares[1]} that or a neighbouring frame"
        )
    return lines


def read_folds(path: Path, names: Collection[str]) -> dict[str, Parts]:
    """Read splits: our manifest, nnU-Net's splits_final.json or a CSV of image and fold.

    The validation part of our manifest is no training; nnU-Net's `val` is what it tests on.

    Args:
        path: The file; its names may be the cases of our nnU-Net dataset, and may have file endings
            and nnU-Net's channel suffix.
        names: The images of the set.

    Raises:
        ValueError: The file is none of these, or names images that the set does not have.
    """
    try:
        folds = _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be a manifest (splits.json), nnU-Net's splits_final.json or a CSV with "
            f"the columns image and fold: {error!r}"
        ) from error
    known = {case: name for name, case in name_cases(names).items()} | {n: n for n in names}
    mentioned = [name for train, test in folds.values() for name in (*train, *test)]
    unknown = sorted({name for name in mentioned if _resolve(name, known) is None})
    if unknown:
        raise ValueError(
            f"{path} must name images of the folder, got {len(unknown)} unknown: {quote(unknown)}"
        )
    return {
        fold: Parts(*(tuple(str(_resolve(name, known)) for name in part) for part in parts))
        for fold, parts in folds.items()
    }


def _resolve(name: str, known: Mapping[str, str]) -> str | None:
    """The image that a name means: as it is, without ending, without channel."""
    stem = next((name[: -len(e)] for e in ENDINGS if name.lower().endswith(e)), name)
    candidates = (name, stem, stem.removesuffix(CHANNEL))
    return next((known[candidate] for candidate in candidates if candidate in known), None)


Named = dict[str, tuple[list[str], list[str]]]


def _read_json(path: Path) -> Named:
    content: Any = json.loads(path.read_text())
    if isinstance(content, list):
        return {
            f"fold {index}": (list(fold["train"]), list(fold["val"]))
            for index, fold in enumerate(content)
        }
    return {
        str(key): (list(split["train"]), list(split["test"]))
        for key, split in content["splits"].items()
    }


def _read_csv(path: Path) -> Named:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [(row["image"], row["fold"]) for row in csv.DictReader(file)]
    if not rows:
        raise ValueError("no rows")
    if {fold for _, fold in rows} <= HOLDOUT:
        train, test = ([n for n, fold in rows if fold == part] for part in ("train", "test"))
        return {"holdout": (train, test)}
    return {
        f"fold {fold}": ([n for n, f in rows if f != fold], [n for n, f in rows if f == fold])
        for fold in sorted({fold for _, fold in rows})
    }
