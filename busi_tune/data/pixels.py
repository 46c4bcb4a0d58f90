"""From a file to pixels: images and masks, of which none is decoded that would not fit."""

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from busi_tune.data.busi import ENDINGS

MAX_PIXELS = 25_000_000
MAX_SCANS = 100
"""Of a JPEG, where tools write ten; each is decoded over all pixels and may take few bytes."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


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

    Of a palette only two used entries, one of them black, name a foreground; it becomes 255 in
    whatever colour it is. One used entry that is black is an empty mask. All others keep their
    colours.

    Raises:
        OSError, ValueError: As `open_image`, or the pixels are damaged.
    """
    with open_image(path) as image:
        opaque = _opaque(image)
        values = np.asarray(opaque.convert("L") if opaque.mode == "1" else opaque)
        if image.mode == "P" and np.count_nonzero(np.bincount(np.asarray(image).ravel())) == 2:
            lit = values.any(axis=2)
            if not lit.all():
                return np.where(lit, 255, 0).astype(np.uint8)
        return values


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
