"""The images and masks of a folder, in BUSI's layout or as images/ + masks/."""

import csv
import mmap
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("benign", "malignant", "normal")
NORMAL = "normal"
UNLABELLED = "unlabelled"
METADATA = "metadata.csv"
MAX_PIXELS = 25_000_000
MAX_SCANS = 100
"""Of a JPEG, where tools write ten; each is decoded over all pixels and may take few bytes."""

_MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")
ENDINGS = (".png", ".jpg", ".jpeg")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


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
        wanted = " or ".join(classes or CLASSES)
        raise ValueError(
            f"{root} holds no image of class {wanted}; data.root must have the folders "
            f"{', '.join(CLASSES)}, or images and masks"
        )
    chosen.sort(key=lambda sample: (sample.label, sample.name))
    return apply_groups(chosen, groups, {sample.name for sample in samples})


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


def open_image(path: Path) -> Image.Image:
    """Open an image without decoding it; refuse what would not fit from the header alone.

    Raises:
        OSError: The file is missing, unreadable or of another format than its ending says.
        ValueError: It has too many pixels, or pixels of another kind than 8-bit grey or colour.
    """
    jpeg = path.suffix.lower() in ENDINGS[1:]
    _refuse_bomb(path, *_read_png_size(path))
    if jpeg:
        _refuse_scans(path)
    try:
        image = Image.open(path, formats=["JPEG" if jpeg else "PNG"])
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is refused as a decompression bomb: {error}") from error
    if image.mode in _MODES and image.width * image.height <= MAX_PIXELS:
        return image
    image.close()
    _refuse_bomb(path, *image.size)
    raise ValueError(f"{path} must be an 8-bit grey or colour image, got mode {image.mode}")


def _read_png_size(path: Path) -> tuple[int, int]:
    """Width and height by the header of a PNG, else 0, 0; Pillow warns of bombs on its own."""
    with path.open("rb") as file:
        head = file.read(24)
    if head[12:16] != b"IHDR":
        return 0, 0
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _refuse_scans(path: Path) -> None:
    """Refuse a JPEG that would be decoded for hours: the marker of a scan stands in no pixels."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = 0
        for _ in range(MAX_SCANS + 1):
            start = content.find(b"\xff\xda", start) + 1
            if not start:
                return
    raise ValueError(f"{path} is refused as a decompression bomb: over {MAX_SCANS} scans")


def _refuse_bomb(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path} is refused as a decompression bomb: {width} x {height} pixels, "
            f"the limit is {MAX_PIXELS}"
        )


def read_image(path: Path) -> np.ndarray:
    """Decode an image to grey, uint8 (H, W).

    Raises:
        OSError, ValueError: As `open_image`, or the pixels are damaged.
    """
    with open_image(path) as image:
        return np.asarray(_opaque(image).convert("L"))


def read_mask(paths: Sequence[Path]) -> np.ndarray:
    """Decode the masks of an image and unite them, bool (H, W).

    Raises:
        OSError, ValueError: As `read_mask_values`, or there is no mask or sizes differ.
    """
    if not paths:
        raise ValueError("an image must have at least one mask file, got none")
    masks = [read_mask_values(path) for path in paths]
    if len({mask.shape[:2] for mask in masks}) > 1:
        raise ValueError(f"masks of one image must have one size: {', '.join(map(str, paths))}")
    united = np.zeros(masks[0].shape[:2], dtype=bool)
    for mask in masks:
        united |= mask.any(axis=2) if mask.ndim == 3 else mask > 0
    return united


def read_mask_values(path: Path) -> np.ndarray:
    """Decode one mask file as stored, uint8 (H, W) or (H, W, 3); all zero is background.

    Raises:
        OSError, ValueError: As `open_image`, or the pixels are damaged.
    """
    with open_image(path) as image:
        opaque = _opaque(image)
        return np.asarray(opaque.convert("L") if opaque.mode == "1" else opaque)


def _opaque(image: Image.Image) -> Image.Image:
    """Lay an image with alpha or palette over black.

    Black is the background of scans and masks alike. Where a pixel is transparent its colour is
    arbitrary (drawing tools save white there), so dropping alpha would invent lesions.
    """
    if image.mode in ("LA", "P", "PA", "RGBA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        black = Image.new("RGBA", colour.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, colour).convert("RGB")
    return image
