"""Everything that is wrong with a folder of images, all at once."""

import mmap
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from busi_tune.data.busi import (
    CLASSES,
    ENDINGS,
    METADATA,
    NORMAL,
    Sample,
    apply_metadata,
    explain_absence,
    is_generic,
    list_files,
    list_samples,
    mask_owner,
    quote,
)
from busi_tune.data.parallel import Progress, map_threads
from busi_tune.data.pixels import open_image, read_image, read_mask_values

_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8"}
_COPY_AGAIN = "copy the file again from its source, or remove image and mask"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file or folder, and what to do about it."""

    path: Path
    cause: str
    remedy: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.severity}: {self.path}: {self.cause}; {self.remedy}"


def check_folder(
    root: Path, classes: Sequence[str] = (), progress: Progress | None = None
) -> list[Problem]:
    """List everything that is wrong with a folder's names, structure and files.

    Args:
        root: Folder in BUSI's layout or images/ + masks/.
        classes: Classes to look at; empty: every one, and each must be there.
        progress: Called after each image.

    Returns:
        The structure's problems first, then the files' in the order of the images.
    """
    problems = check_structure(root, classes)
    samples = _labelled(root, classes)
    for found in map_threads(check_sample, samples, progress):
        problems += found
    return problems


def check_structure(root: Path, classes: Sequence[str] = ()) -> list[Problem]:
    """List what is wrong with the names alone; opens no image."""
    if not root.is_dir():
        return [Problem(root, "no such folder", "give the folder of the images")]
    problems = list(_check_generic(root) if is_generic(root) else _check_busi(root, classes))
    samples = _labelled(root, classes)
    if not samples:
        problems.append(Problem(*explain_absence(root, classes)))
    copies = Counter(sample.name for sample in samples)
    for sample in samples:
        if copies[sample.name] > 1:
            problems.append(
                Problem(
                    sample.image_path,
                    f"{copies[sample.name]} images are named {sample.name}",
                    "rename all but one, with their masks",
                )
            )
    return problems


def check_image(path: Path) -> tuple[tuple[int, int] | None, list[Problem]]:
    """List what is wrong with an image's file; also (width, height) where that is readable."""
    size, problems = _check_file(path)
    return size, problems or _decoded(path, read_image)[1]


def check_sample(sample: Sample) -> list[Problem]:
    """List what is wrong with the files of one image."""
    size, problems = check_image(sample.image_path)
    if not sample.mask_paths:
        remedy = "add its mask file (all zero where there is no lesion) or remove the image"
        return [*problems, Problem(sample.image_path, "image without mask", remedy)]
    masks = [_check_mask(path, sample.label, size) for path in sample.mask_paths]
    found = [problem for mask_problems, _ in masks for problem in mask_problems]
    if not found and not any(filled for _, filled in masks) and sample.label != NORMAL:
        found.append(
            Problem(
                sample.mask_paths[0],
                f"empty mask in class {sample.label}",
                "draw the lesion, or move image and mask to class normal",
                "warning",
            )
        )
    return problems + found


def _labelled(root: Path, classes: Sequence[str]) -> list[Sample]:
    samples = list_samples(root, classes)
    if is_generic(root):
        try:
            samples = apply_metadata(samples, root / METADATA)
        except ValueError:  # reported by the structure's check; the files are checked all the same
            return samples
    return [sample for sample in samples if not classes or sample.label in classes]


def _check_busi(root: Path, classes: Sequence[str]) -> Iterator[Problem]:
    folders = sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    expected = tuple(classes) or CLASSES
    for label in expected:
        if not (root / label).is_dir():
            yield Problem(
                root / label,
                "missing class folder",
                "add it, or name the classes to use in data.classes",
            )
    for folder in folders:
        if not classes and folder.name not in CLASSES:
            yield Problem(
                folder,
                f"unknown class folder, the classes are {', '.join(CLASSES)}",
                "rename it, move it elsewhere, or name the classes to use in data.classes",
            )
        elif folder.name in expected:
            yield from _check_class(folder)
    for path in list_files(root, ENDINGS):
        remedy = "move it into the folder of its class"
        yield Problem(path, "ignored, it lies outside the class folders", remedy, "warning")


def _check_class(folder: Path) -> Iterator[Problem]:
    files = list_files(folder, (".png",))
    images = {path.stem for path in files if mask_owner(path) is None}
    if not images:
        yield Problem(folder, "class folder without images", "add its images or remove the folder")
    for path in files:
        owner = mask_owner(path)
        if owner is not None and owner not in images:
            yield _without_image(path, f"{owner}.png")
    yield from _check_ignored(folder, (".png",))


def _check_generic(root: Path) -> Iterator[Problem]:
    images = list_files(root / "images", ENDINGS)
    names = {path.stem for path in images}
    for path in list_files(root / "masks", (".png",)):
        if path.stem not in names:
            yield _without_image(path, path.name)
    yield from _check_ignored(root / "images", ENDINGS)
    yield from _check_ignored(root / "masks", (".png",))
    try:
        apply_metadata(list_samples(root), root / METADATA)
    except ValueError as error:
        yield Problem(root / METADATA, str(error), "correct the file, or remove it to do without")


def _check_ignored(folder: Path, endings: Sequence[str]) -> Iterator[Problem]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if path.suffix.lower() not in endings and not path.name.startswith("."):
            yield Problem(
                path,
                f"ignored, it does not end in {' or '.join(endings)}",
                "convert it to PNG if it is an image or mask",
                "warning",
            )


def _without_image(path: Path, image: str) -> Problem:
    return Problem(path, f"mask without image {image}", "add the image or remove the mask")


def _check_mask(path: Path, label: str, size: tuple[int, int] | None) -> tuple[list[Problem], bool]:
    """Check one mask file against its image's (width, height); also whether it holds a lesion."""
    mask_size, problems = _check_file(path)
    if problems:
        return problems, False
    if size and mask_size and size != mask_size:
        cause = (
            f"size {mask_size[0]} x {mask_size[1]} differs from the image's {size[0]} x {size[1]}"
        )
        problems.append(Problem(path, cause, "export the mask again at the image's size"))
    values, found = _decoded(path, read_mask_values)
    if values is None:
        return problems + found, False
    strange = strange_values(values)
    if strange:
        problems.append(
            Problem(
                path,
                f"values that are neither background nor foreground: {quote(strange)}",
                "save the mask with 0 for background and 255 for lesion, or with a palette of "
                "which two entries are used, one of them black",
            )
        )
    filled = bool(values.any())
    if filled and label == NORMAL:
        problems.append(
            Problem(path, "non-empty mask in class normal", "clear it, or move image and mask")
        )
    return problems, filled


def strange_values(values: np.ndarray) -> list[str]:
    """The values of a mask that are neither 0 nor its foreground, 255 (or 1 in a mask of 0, 1)."""
    counts = np.bincount(values.ravel(), minlength=256)
    foreground = 1 if not counts[2:].any() else 255
    return [str(value) for value in np.flatnonzero(counts) if value not in (0, foreground)]


def _check_file(path: Path) -> tuple[tuple[int, int] | None, list[Problem]]:
    """Check format, size and, of a PNG, every checksum; also (width, height) where readable."""
    if path.exists() and not path.is_file():  # a pipe or device could be read for ever
        return None, [Problem(path, "unreadable: no regular file", "replace it by a file")]
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        return None, [Problem(path, f"unreadable: {error.strerror}", "make it a readable file")]
    if not head:
        return None, [Problem(path, "empty file", _COPY_AGAIN)]
    kind, other = ("PNG", "JPEG") if path.suffix.lower() == ".png" else ("JPEG", "PNG")
    if head.startswith(_SIGNATURES[other]):
        remedy = "save it as PNG" if kind == "PNG" else "rename it to .png"
        cause = f"{other} data in a file named {path.suffix}"
        return None, [Problem(path, cause, remedy)]
    if not head.startswith(_SIGNATURES[kind]):
        return None, [Problem(path, f"not a {kind} file", _COPY_AGAIN)]
    fault = find_png_fault(path) if kind == "PNG" else None
    problems = [Problem(path, fault, _COPY_AGAIN)] if fault else []
    try:
        with open_image(path) as image:
            return image.size, problems
    except ValueError as error:
        cause = str(error).removeprefix(f"{path} ")
        refused = Problem(path, cause, "scale it down, or convert it to 8-bit grey")
    except Exception as error:  # Pillow raises many kinds on damaged headers
        refused = Problem(path, f"damaged header: {error}", _COPY_AGAIN)
    return None, problems or [refused]


def find_png_fault(path: Path) -> str | None:
    """Walk the chunks of a PNG file and verify their checksums, which Pillow does not for all.

    See the PNG specification, 5.3: length, type, data, CRC-32 of type and data.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        return _find_chunk_fault(content)


def _find_chunk_fault(content: memoryview) -> str | None:
    start = len(_SIGNATURES["PNG"])
    while start < len(content):
        length = int.from_bytes(content[start : start + 4])
        kind = bytes(content[start + 4 : start + 8])
        end = start + 12 + length
        if end > len(content):
            return "truncated, or a bit flipped in a chunk's length"
        if zlib.crc32(content[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end]):
            return f"damaged: the checksum of chunk {kind.decode('latin-1')} does not fit"
        if kind == b"IEND":
            return None
        start = end
    return "truncated: the end chunk (IEND) is missing"


def _decoded(
    path: Path, read: Callable[[Path], np.ndarray]
) -> tuple[np.ndarray | None, list[Problem]]:
    try:
        return read(path), []
    except Exception as error:  # Pillow raises many kinds on damaged pixels
        return None, [Problem(path, f"cannot be decoded: {error}", _COPY_AGAIN)]
