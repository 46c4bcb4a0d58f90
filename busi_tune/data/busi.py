"""The images and masks of a folder, in BUSI's layout or as images/ + masks/."""

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

CLASSES = ("benign", "malignant", "normal")
NORMAL = "normal"
UNLABELLED = "unlabelled"
METADATA = "metadata.csv"

_MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")
ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Sample:
    """An image and the masks of its lesions."""

    name: str
    """The image file's name without ending, unique in the set."""
    label: str
    """The class."""
    image_path: Path
    mask_paths: tuple[Path, ...]
    group: str
    """Images of one group stay in one part of a split; a lone image is its own group."""


def find_samples(root: Path, classes: Sequence[str] = (), groups: str = "none") -> list[Sample]:
    """List a folder's images, sorted by class and name; an image may still lack its mask.

    Args:
        root: Folder in BUSI's layout (`benign/x.png`, `benign/x_mask.png`, `benign/x_mask_1.png`)
            or `images/x.png` (or .jpg) + `masks/x.png`, there with an optional metadata.csv
            (columns image, class, group).
        classes: Classes to use; empty: all.
        groups: `none` or a CSV with the columns image and group, a row per image.

    Raises:
        ValueError: There are no such images, or a CSV does not fit them.
    """
    if not root.is_dir():
        raise ValueError(f"data.root must be a folder of images, got {root}: no such folder")
    samples = list_samples(root, classes)
    if is_generic(root):
        samples = apply_metadata(samples, root / METADATA)
    chosen = [sample for sample in samples if not classes or sample.label in classes]
    if not chosen:
        place, cause, remedy = explain_absence(root, classes)
        raise ValueError(f"{place}: {cause}; {remedy}")
    chosen.sort(key=lambda sample: (sample.label, sample.name))
    return apply_groups(chosen, groups, {sample.name for sample in samples})


def explain_absence(root: Path, classes: Sequence[str]) -> tuple[Path, str, str]:
    """Where no image is of the classes: what to look at, what is wrong there, and the remedy."""
    cause = f"no image of class {' or '.join(classes or CLASSES)}"
    if not classes or not is_generic(root):
        folders = ", ".join(CLASSES)
        return root, cause, f"give the folder that has {folders} in it, or images and masks"
    if (root / METADATA).exists():
        return root / METADATA, cause, "correct it, or name its classes in data.classes"
    cause = f"missing; beside images and masks it names the classes, so there is {cause}"
    remedy = "add it with the columns image and class, or leave data.classes out"
    return root / METADATA, cause, remedy


def is_generic(root: Path) -> bool:
    """Whether the folder has the layout images/ + masks/."""
    return (root / "images").is_dir()


def list_samples(root: Path, classes: Sequence[str] = ()) -> list[Sample]:
    """List the images of every class, those asked for or not, without reading any CSV."""
    if is_generic(root):
        masks = {path.stem: path for path in list_files(root / "masks", (".png",))}
        return [
            _sample(image, UNLABELLED, [masks[image.stem]] if image.stem in masks else [])
            for image in list_files(root / "images", ENDINGS)
        ]
    labels = sorted({*CLASSES, *classes})
    return [sample for label in labels for sample in _list_class(root / label)]


def list_files(folder: Path, endings: Collection[str]) -> list[Path]:
    """The folder's entries with one of the endings, sorted by name, hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in endings and not path.name.startswith(".")
    )


def mask_owner(path: Path) -> str | None:
    """The name of the image to which a file of BUSI's layout is a mask; None for an image."""
    match = _MASK_STEM.fullmatch(path.stem)
    return match["image"] if match else None


def _list_class(folder: Path) -> list[Sample]:
    masks: dict[str, list[Path]] = {}
    images: list[Path] = []
    for path in list_files(folder, (".png",)):
        owner = mask_owner(path)
        if owner is None:
            images.append(path)
        else:
            masks.setdefault(owner, []).append(path)
    return [_sample(image, folder.name, masks.get(image.stem, [])) for image in images]


def _sample(image: Path, label: str, masks: Sequence[Path]) -> Sample:
    return Sample(image.stem, label, image, tuple(masks), image.stem)


def apply_metadata(samples: Iterable[Sample], path: Path) -> list[Sample]:
    """Give the samples class and group of a metadata.csv, where there is one.

    Raises:
        ValueError: The file is unreadable or names unknown images or not all.
    """
    samples = list(samples)
    if not path.exists():
        return samples
    names = {sample.name for sample in samples}
    rows = _read_rows(path, ("image",), names, names)
    return [
        replace(
            sample,
            label=rows[sample.name].get("class") or UNLABELLED,
            group=rows[sample.name].get("group") or sample.name,
        )
        for sample in samples
    ]


def apply_groups(samples: list[Sample], groups: str, known: Collection[str]) -> list[Sample]:
    """Give the samples the groups of a CSV (`none`: leave them as they are).

    Args:
        samples: The images that need a group.
        groups: `none` or the path of a CSV with the columns image and group.
        known: Names that the CSV may have besides, as of classes that are not used.

    Raises:
        ValueError: The file is unreadable or names unknown images or not all.
    """
    if groups == "none":
        return samples
    path = Path(groups)
    if not path.is_file():
        raise ValueError(
            f"data.groups must be auto, none or a CSV with the columns image and group, "
            f"got {groups}: no such file"
        )
    rows = _read_rows(path, ("image", "group"), known, {sample.name for sample in samples})
    return [replace(sample, group=rows[sample.name]["group"]) for sample in samples]


def _read_rows(
    path: Path, required: Sequence[str], known: Collection[str], needed: Collection[str]
) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [column for column in required if column not in (reader.fieldnames or ())]
            table = [{key: value or "" for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8: {error}") from error
    if absent:
        raise ValueError(f"{path} must have the columns {', '.join(required)}; add {absent[0]}")
    names = [_image_name(row["image"]) for row in table]
    faults: Mapping[str, list[str]] = {
        "more than one row for": sorted({name for name in names if names.count(name) > 1}),
        "an empty field for": [
            name
            for name, row in zip(names, table, strict=True)
            if not all(row[column] for column in required)
        ],
        "unknown images": sorted(set(names) - set(known)),
        "no row for": sorted(set(needed) - set(names)),
    }
    text = "; ".join(f"{fault} {quote(found)}" for fault, found in faults.items() if found)
    if text:
        raise ValueError(f"{path} must have one row for every image (column image): {text}")
    return dict(zip(names, table, strict=True))


def _image_name(field: str) -> str:
    return Path(field).stem if Path(field).suffix.lower() in ENDINGS else field


def quote(names: Sequence[str], most: int = 5) -> str:
    """Join names for a message, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
