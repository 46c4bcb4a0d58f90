"""Decoded images on disk: arrays that appear whole or not at all, with their checksums."""

import contextlib
import json
import logging
import mmap
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from busi_tune.data.busi import Sample, quote
from busi_tune.data.parallel import Progress, map_threads
from busi_tune.data.pixels import read_image, read_mask
from busi_tune.data.resizing import make_square
from busi_tune.run_directory import write_json

logger = logging.getLogger(__name__)

_META = "meta.json"
_ARRAYS = ("images", "masks", "sizes", "packed_masks", "offsets", "several", "packed_firsts")
_FILES = (_META, *(f"{name}.npy" for name in _ARRAYS))
_CHECKSUMS = "checksums.json"


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` when it is whole; its parent must be locked."""
    partial = target.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)


def store(
    folder: Path,
    samples: Sequence[Sample],
    image_size: int,
    resize: str,
    outcome: dict[str, Any],
    progress: Progress | None,
) -> None:
    """Decode images and masks into arrays of a folder.

    Args:
        folder: A folder as of `replacing`.
        samples: What to decode; each was checked.
        image_size: Side in pixels of the squares to which images and masks are brought.
        resize: How, as `find_box` has it.
        outcome: What `open_stored` returns beside the arrays.
        progress: Called after each image.
    """
    shape = (len(samples), image_size, image_size)
    images, masks = (
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for name in ("images", "masks")
    )
    sizes = np.zeros((len(samples), 2), dtype=np.int32)
    packed = []
    decoded = map_threads(lambda sample: _decode(sample, image_size, resize), samples, progress)
    for index, (image, mask, original) in enumerate(decoded):
        images[index], masks[index], sizes[index] = image, mask, original.shape
        packed.append(np.packbits(original))
    images.flush()
    masks.flush()
    np.save(folder / "sizes.npy", sizes)
    np.save(folder / "packed_masks.npy", np.concatenate(packed))
    np.save(folder / "offsets.npy", np.cumsum([0, *(part.size for part in packed)], dtype=np.int64))
    _store_firsts(folder, samples)
    write_json(folder / _META, outcome)
    write_json(folder / _CHECKSUMS, {name: _checksum(folder / name) for name in _FILES})


def _store_firsts(folder: Path, samples: Sequence[Sample]) -> None:
    """Keep the first mask of the images that have several: few, so that they may be read twice."""
    several = [index for index, sample in enumerate(samples) if len(sample.mask_paths) > 1]
    firsts = [np.packbits(read_mask(samples[index].mask_paths[:1])) for index in several]
    np.save(folder / "several.npy", np.array(several, dtype=np.int64))
    np.save(folder / "packed_firsts.npy", np.concatenate([np.zeros(0, dtype=np.uint8), *firsts]))


def _decode(
    sample: Sample, image_size: int, resize: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and mask at the training size, and the mask as it is."""
    original = read_mask(sample.mask_paths)
    image = make_square(read_image(sample.image_path), image_size, resize)
    covered = make_square(original.astype(np.uint8) * 255, image_size, resize)
    return image, covered > 127, original


def open_stored(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Map what `store` wrote; None where it is missing or damaged."""
    if not folder.exists():
        return None
    try:
        checksums = json.loads((folder / _CHECKSUMS).read_text())
        damaged = [name for name in _FILES if _checksum(folder / name) != checksums[name]]
        if not damaged:
            return json.loads((folder / _META).read_text()), {
                # a plain view of the mapped file: a memmap would be copied when pickled, not shared
                name: np.asarray(np.lib.format.open_memmap(folder / f"{name}.npy", "r"))
                for name in _ARRAYS
            }
    except (OSError, ValueError, KeyError, TypeError) as error:
        damaged = [str(error)]
    logger.warning("the cache %s is damaged and is built again: %s", folder, quote(damaged))
    return None


def _checksum(path: Path) -> int:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return zlib.crc32(content)
