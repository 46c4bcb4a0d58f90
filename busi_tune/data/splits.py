"""Hold-out and k folds over whole groups, stratified by class, and their manifest."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from busi_tune.data.busi import quote
from busi_tune.data.cache import ImageSet
from busi_tune.run_directory import MEND, write_json

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Disjoint parts of an image set: sorted int64 indices."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_key(repeat: int, fold: int) -> str:
    """Return the name of a fold in splits.json."""
    return f"repeat-{repeat}/fold-{fold}"


def read_split_key(key: str) -> tuple[int, int]:
    """Read repeat and fold from the name of a fold in splits.json.

    Raises:
        ValueError: it is another name.
    """
    found = re.fullmatch(r"repeat-(\d+)/fold-(\d+)", key)
    if not found:
        raise ValueError(f"a fold must be named as {split_key(0, 0)}, not {key}")
    return int(found[1]), int(found[2])


def make_holdout(labels: Sequence[str], groups: Sequence[str], seed: int) -> Split:
    """Split 8:1:1, the report's protocol, over whole groups and stratified by class.

    Args:
        labels: Class of each image.
        groups: Group of each image; a group stays in one part.
        seed: Seed of the draw.

    Raises:
        ValueError: There are fewer than three groups.
    """
    everything = np.arange(len(labels))
    test = _draw_share(10, everything, labels, groups, seed)
    rest = np.setdiff1d(everything, test)
    validation = _draw_share(9, rest, labels, groups, seed)
    return Split(np.setdiff1d(rest, validation), validation, test)


def take_all(num_images: int) -> Split:
    """Train on every image: nothing validates, nothing tests."""
    none = np.arange(0)
    return Split(np.arange(num_images), none, none)


def make_folds(
    labels: Sequence[str], groups: Sequence[str], num_folds: int, seed: int
) -> list[Split]:
    """Split into folds: each is the test part once, a tenth of the rest validates.

    Args:
        labels: Class of each image.
        groups: Group of each image; a group stays in one part.
        num_folds: Number of folds, from 2 to the groups of the smallest class.
        seed: Seed of the draw.

    Raises:
        ValueError: The number of folds is too small or too large.
    """
    _check_num_folds(labels, groups, num_folds)
    everything = np.arange(len(labels))
    parts = _draw_parts(everything, labels, groups, num_folds, seed)
    if len(parts) < num_folds:
        raise ValueError(_say_empty_folds(labels, groups, num_folds, seed))
    splits = []
    for test in parts:
        rest = np.setdiff1d(everything, test)
        validation = _draw_share(10, rest, labels, groups, seed)
        splits.append(Split(np.setdiff1d(rest, validation), validation, test))
    return splits


def redraw_validation(
    split: Split, labels: Sequence[str], groups: Sequence[str], seed: int
) -> Split:
    """Draw another validation part of a hold-out, again an eighth of train; the test part stays.

    Args:
        split: The split to redraw.
        labels: Class of each image of the set.
        groups: Group of each image.
        seed: Seed of the draw.
    """
    development = np.union1d(split.train, split.validation)
    validation = _draw_share(9, development, labels, groups, seed)
    return Split(np.setdiff1d(development, validation), validation, split.test)


def make_inner_folds(
    split: Split, labels: Sequence[str], groups: Sequence[str], num_folds: int, seed: int
) -> list[Split]:
    """Part the images that train or validate into folds, each of which validates once.

    Args:
        split: The split around the folds; its test part stays.
        labels: Class of each image of the set.
        groups: Group of each image.
        num_folds: Number of folds.
        seed: Seed of the draw.

    Raises:
        ValueError: There are too few groups.
    """
    development = np.union1d(split.train, split.validation)
    parts = _draw_parts(development, labels, groups, num_folds, seed)
    if len(parts) < num_folds:
        num_groups = len({groups[index] for index in development})
        raise ValueError(
            f"search.inner_folds {num_folds} leaves folds without images: the development part has "
            f"{len(development)} images in {num_groups} groups; use fewer"
        )
    return [Split(np.setdiff1d(development, part), part, split.test) for part in parts]


def _check_num_folds(labels: Sequence[str], groups: Sequence[str], num_folds: int) -> None:
    if num_folds < 2:
        raise ValueError(f"kfold.num_folds must be at least 2, got {num_folds}")
    members: dict[str, set[str]] = {label: set() for label in sorted(set(labels))}
    for label, group in zip(labels, groups, strict=True):
        members[label].add(group)
    smallest = min(members, key=lambda label: len(members[label]))
    largest = len(members[smallest])
    if num_folds > largest:
        num_images = list(labels).count(smallest)
        remedy = f"{largest} is the largest that works" if largest > 1 else "leave the class out"
        raise ValueError(
            f"kfold.num_folds must be at most the groups of every class, got {num_folds}: class "
            f"{smallest} has {num_images} images in {largest} groups; {remedy}"
        )


def _say_empty_folds(
    labels: Sequence[str], groups: Sequence[str], num_folds: int, seed: int
) -> str:
    """Name the largest number of folds that leaves none empty."""
    everything = np.arange(len(labels))
    works = [
        number
        for number in range(2, num_folds)
        if len(_draw_parts(everything, labels, groups, number, seed)) == number
    ]
    remedy = f"{works[-1]} is the largest that works" if works else "split large groups or add some"
    return (
        f"kfold.num_folds must leave no fold without images, got {num_folds}: the "
        f"{len(set(groups))} groups of {len(labels)} images are too unequal; {remedy}"
    )


def _draw_share(
    share: int, indices: np.ndarray, labels: Sequence[str], groups: Sequence[str], seed: int
) -> np.ndarray:
    """Draw whole groups, as near to one `share`-th of every class as they allow.

    Of the parts that whole groups allow, that one is taken which leaves every class in the rest,
    then that which has every class, then the one nearest to the share.
    """
    names, counts = np.unique(np.asarray(labels)[indices], return_counts=True)
    num_parts = min(share, len({groups[index] for index in indices}), int(counts.max()))
    parts = _draw_parts(indices, labels, groups, num_parts, seed) if num_parts > 1 else []
    if len(parts) < 2:
        raise ValueError(
            "train, validation and test need a group of images each and two images of a class to "
            f"draw from, got {len(labels)} images in {len(set(groups))} groups; add images"
        )

    def fitness(part: np.ndarray) -> tuple[int, int, float]:
        found = np.array([(np.asarray(labels)[part] == name).sum() for name in names])
        distance = float(np.abs(found / counts - 1 / share).sum())
        return int((found == counts).sum()), int((found == 0).sum()), distance

    return min(parts, key=fitness)


def _draw_parts(
    indices: np.ndarray, labels: Sequence[str], groups: Sequence[str], num_parts: int, seed: int
) -> list[np.ndarray]:
    """Share whole groups among parts, stratified; few large groups may leave fewer parts."""
    from sklearn.model_selection import StratifiedGroupKFold  # a second that reports need not wait

    folds = StratifiedGroupKFold(num_parts, shuffle=True, random_state=seed)
    chosen_labels, chosen_groups = np.asarray(labels)[indices], np.asarray(groups)[indices]
    with warnings.catch_warnings():
        # a class with fewer images than parts is met by choosing among the parts
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        drawn = folds.split(np.zeros(len(indices)), chosen_labels, chosen_groups)
        return [np.sort(indices[part]).astype(np.int64) for _, part in drawn if len(part)]


def name_parts(split: Split, images: ImageSet) -> dict[str, list[str]]:
    """Return the names of the images of each part."""
    return {part: [images.names[index] for index in getattr(split, part)] for part in PARTS}


def save_splits(
    path: Path, splits: dict[str, Split], images: ImageSet, seed: int | None = None
) -> None:
    """Write the manifest: names by part, the data's hash and the seed they were drawn with."""
    named = {key: name_parts(split, images) for key, split in splits.items()}
    write_json(path, {"data_hash": images.data_hash, "seed": seed, "splits": named})


def load_splits(path: Path, images: ImageSet) -> dict[str, Split]:
    """Read a manifest and verify that it fits the images.

    Raises:
        ValueError: It is unreadable, names unknown images, has parts that overlap or was made for
            other data; the message says what differs.
    """
    try:
        manifest = json.loads(path.read_text())
        named = {
            str(key): {part: [str(name) for name in split[part]] for part in PARTS}
            for key, split in manifest["splits"].items()
        }
        data_hash = manifest["data_hash"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of splits, or damaged: {error!r}{MEND}") from error
    positions = {name: index for index, name in enumerate(images.names)}
    mentioned = {name for parts in named.values() for names in parts.values() for name in names}
    unknown = sorted(mentioned - set(positions))
    if unknown:
        raise ValueError(
            f"{path} names {len(unknown)} images that the data does not have: {quote(unknown)}; "
            "restore them, or start a new run"
        )
    for key, parts in named.items():
        _check_parts(path, key, parts)
    if data_hash != images.data_hash:
        new = sorted(set(positions) - mentioned)
        difference = f"{len(new)} images are new: {quote(new)}" if new else "files have changed"
        raise ValueError(
            f"{path} was made for other data ({str(data_hash)[:12]}, now {images.data_hash[:12]}): "
            f"{difference}; restore the data, or start a new run"
        )
    return {
        key: Split(
            *(np.sort(np.array([positions[n] for n in parts[p]], dtype=np.int64)) for p in PARTS)
        )
        for key, parts in named.items()
    }


def _check_parts(path: Path, key: str, parts: dict[str, list[str]]) -> None:
    seen: set[str] = set()
    for part, names in parts.items():
        twice = sorted(seen & set(names)) or sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(
                f"{path}: parts of a split must not overlap; {key} has {quote(twice)} in {part} "
                f"and once more{MEND}"
            )
        seen |= set(names)
