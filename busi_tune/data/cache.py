"""The images of a configuration: checked and decoded once per content and size, then mapped."""

import hashlib
import inspect
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from busi_tune.config import DataConfig
from busi_tune.data import phantom, scanner
from busi_tune.data.busi import ENDINGS, Sample, apply_groups, find_samples, list_samples, quote
from busi_tune.data.check import Problem, check_folder, check_structure
from busi_tune.data.groups import load_pairs, unite_groups
from busi_tune.data.parallel import PhaseProgress, in_phase, map_threads
from busi_tune.data.resizing import Box, find_box
from busi_tune.data.store import open_stored, replacing, store
from busi_tune.run_directory import locked

logger = logging.getLogger(__name__)

_FORMAT = "3"  # of check, stored files and resizing; another one is never read
_WAIT_SECONDS = 600.0

Form = tuple[int, str]
"""The side in pixels and the way in which images are brought to squares."""


@dataclass(frozen=True)
class ImageSet:
    """Decoded images and masks, at the training size and, the masks, at their own."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    image_size: int
    data_hash: str
    """SHA-256 of names, labels and file contents; the same at every image size."""
    images: np.ndarray
    """uint8 (N, S, S), grey, each brought to a square."""
    masks: np.ndarray
    """uint8 (N, S, S), 0 or 1."""
    sizes: np.ndarray
    """int32 (N, 2), original height and width."""
    packed_masks: np.ndarray
    """uint8, the original-size masks as bits, one after the other."""
    offsets: np.ndarray
    """int64 (N + 1,), where each packed mask begins and ends."""
    several: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 (M,), positions of the images with several mask files, ascending."""
    packed_firsts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    """uint8, the first of their masks as bits, packed as `packed_masks`."""
    resize: str = "stretch"
    """How images became squares, `data.resize`."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def form(self) -> Form:
        """`data.image_size` and `data.resize`."""
        return self.image_size, self.resize

    def box(self, index: int) -> Box:
        """Rows and columns of its square in which an image lies."""
        height, width = (int(side) for side in self.sizes[index])
        return find_box(height, width, self.image_size, self.resize)

    def content(self, index: int) -> np.ndarray:
        """An image at training size without its borders, uint8 (h, w)."""
        inside: np.ndarray = self.images[index][self.box(index)]
        return inside

    def original_mask(self, index: int) -> np.ndarray:
        """The union of an image's masks at its own size, bool (H, W)."""
        return self._unpack(index, self.packed_masks, int(self.offsets[index]))

    def first_mask(self, index: int) -> np.ndarray:
        """The first of an image's mask files alone, by name, bool (H, W)."""
        position = int(np.searchsorted(self.several, index))
        if position == len(self.several) or self.several[position] != index:
            return self.original_mask(index)
        lengths = np.diff(self.offsets)[self.several[:position]]
        return self._unpack(index, self.packed_firsts, int(lengths.sum()))

    def _unpack(self, index: int, packed: np.ndarray, start: int) -> np.ndarray:
        height, width = (int(side) for side in self.sizes[index])
        count = height * width
        bits = np.unpackbits(packed[start : start + -(-count // 8)], count=count)
        return bits.reshape(height, width).astype(bool)


def load_images(config: DataConfig, progress: PhaseProgress | None = None) -> ImageSet:
    """Check and decode the images of a configuration, or map them where that was done before.

    Args:
        config: Which images, at which size; without a root the phantom set is made and used.
        progress: Called after each image of a check, of decoding and of looking for duplicates.

    Raises:
        ValueError: The folder has errors (all are listed) or a setting does not fit it.
    """
    if config.image_size < 8:
        raise ValueError(f"data.image_size must be at least 8 pixels, got {config.image_size}")
    root = find_root(config)
    structure = check_structure(root, config.classes)
    if _blocking(structure, config.skip_bad):
        problems = check_folder(root, config.classes, in_phase(progress, "check"))
        _refuse(root, _blocking(problems, config.skip_bad), config.skip_bad)
    samples = find_samples(root, config.classes)
    meta, arrays = _load_stored(root, samples, structure, config, progress)
    _log_outcome(root, len(samples), meta)
    names = set(meta["names"])
    used = [sample for sample in samples if sample.name in names]
    if config.groups == "auto":
        pairs = load_pairs(used, meta["data_hash"], cache_folder(config), progress)
        used = unite_groups(used, pairs)
    else:
        everything = {sample.name for sample in list_samples(root, config.classes)}
        used = apply_groups(used, config.groups, everything)
    return ImageSet(
        names=tuple(sample.name for sample in used),
        labels=tuple(sample.label for sample in used),
        groups=tuple(sample.group for sample in used),
        image_size=config.image_size,
        resize=config.resize,
        data_hash=meta["data_hash"],
        **arrays,
    )


def _load_stored(
    root: Path,
    samples: Sequence[Sample],
    structure: Sequence[Problem],
    config: DataConfig,
    progress: PhaseProgress | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Map the stored arrays of these samples; check, decode and store first where needed.

    The key is what the check saw, names and contents, so that its outcome need not be found again.
    """
    digests = hash_samples(samples)
    causes = [f"{problem.path.name}: {problem.cause}" for problem in structure]
    key = join_hashes([_FORMAT, str(config.skip_bad), *causes, *digests.values()])
    way = "" if config.resize == "stretch" else f"-{config.resize}"
    entry = cache_folder(config) / f"{key[:24]}-{config.image_size}{way}"
    with locked(entry, _WAIT_SECONDS):
        stored = open_stored(entry / "data")
        if stored is None:
            kept, outcome = _select(root, samples, config, progress)
            outcome["data_hash"] = join_hashes(digests[sample] for sample in kept)
            with replacing(entry / "data") as folder:
                shown = in_phase(progress, "decode")
                store(folder, kept, config.image_size, config.resize, outcome, shown)
            stored = open_stored(entry / "data")
            assert stored is not None
        return stored


def cache_folder(config: DataConfig) -> Path:
    """Where decoded images and their near-duplicates are kept."""
    chosen = config.cache_dir or os.environ.get("BUSI_TUNE_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "busi_tune"


def find_root(config: DataConfig) -> Path:
    """The folder of images; without one the phantom set, written where it is not there yet."""
    if config.root:
        return Path(config.root)
    sources = [inspect.getsource(module) for module in (phantom, scanner)]
    entry = cache_folder(config) / f"phantom-{config.phantom_images}-{join_hashes(sources)[:12]}"
    with locked(entry, _WAIT_SECONDS):
        if not (entry / "data").exists():
            with replacing(entry / "data") as folder:
                phantom.write_phantom(folder, config.phantom_images)
    return entry / "data"


def _select(
    root: Path, samples: Sequence[Sample], config: DataConfig, progress: PhaseProgress | None
) -> tuple[list[Sample], dict[str, Any]]:
    """Check the folder; the samples to use and the outcome to remember.

    Raises:
        ValueError: There are errors, all listed, and skip_bad is off or leaves nothing.
    """
    problems = check_folder(root, config.classes, in_phase(progress, "check"))
    errors = [problem for problem in problems if problem.severity == "error"]
    if _blocking(problems, config.skip_bad):
        _refuse(root, _blocking(problems, config.skip_bad), config.skip_bad)
    bad = {problem.path for problem in errors}
    kept = [s for s in samples if bad.isdisjoint((s.image_path, *s.mask_paths))]
    if not kept:
        _refuse(root, errors, config.skip_bad)
    return kept, {
        "names": [sample.name for sample in kept],
        "bad_files": sorted({problem.path.name for problem in errors}),
        "num_warnings": len(problems) - len(errors),
    }


def _blocking(problems: Iterable[Problem], skip_bad: bool) -> list[Problem]:
    """The errors that forbid the folder: with skip_bad only those that are not of one file."""
    return [
        problem
        for problem in problems
        if problem.severity == "error" and not (skip_bad and problem.path.suffix.lower() in ENDINGS)
    ]


def _refuse(root: Path, errors: Sequence[Problem], skip_bad: bool) -> None:
    lines = "\n".join(f"  {error}" for error in errors)
    helps = not skip_bad and len(_blocking(errors, skip_bad=True)) < len(errors)
    remedy = "correct them" + (", or leave bad images out with data.skip_bad" if helps else "")
    raise ValueError(f"{root} has {len(errors)} errors; {remedy}:\n{lines}")


def _log_outcome(root: Path, num_samples: int, meta: dict[str, Any]) -> None:
    if meta["bad_files"]:
        logger.warning(
            "data.skip_bad: left out %d of %d images of %s; bad files: %s",
            num_samples - len(meta["names"]),
            num_samples,
            root,
            quote(meta["bad_files"], most=20),
        )
    if meta["num_warnings"]:
        logger.warning(
            "%d warnings about %s: python -m busi_tune.data check lists them",
            meta["num_warnings"],
            root,
        )


def hash_samples(samples: Sequence[Sample]) -> dict[Sample, str]:
    """Hash the name, class and file contents of each sample."""
    return dict(zip(samples, map_threads(_hash_sample, samples), strict=True))


def join_hashes(parts: Iterable[str]) -> str:
    """Make one hash of many; of the samples of a set, in order, it is the set's data hash."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _hash_sample(sample: Sample) -> str:
    parts = [sample.name, sample.label]
    for path in (sample.image_path, *sample.mask_paths):
        try:
            if not path.is_file():
                raise OSError("a pipe or device could be read for ever")
            with path.open("rb") as file:
                parts.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:  # the check names it
            parts.append("unreadable")
    return join_hashes(parts)
