"""The images of a folder to predict: found, checked all at once, and read as in training."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from busi_tune.config import DataConfig
from busi_tune.data.busi import (
    CLASSES,
    ENDINGS,
    find_samples,
    is_generic,
    list_files,
    list_samples,
    mask_owner,
    quote,
)
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.check import Problem, check_image
from busi_tune.data.parallel import map_threads
from busi_tune.data.phases import Phases
from busi_tune.data.pixels import read_image
from busi_tune.data.resizing import make_square

logger = logging.getLogger(__name__)

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Inputs:
    """Images to predict."""

    folder: Path
    paths: dict[str, Path]
    """Files by the images' names."""
    known: ImageSet | None
    """Their masks, classes and groups, image by image in the same order; None without masks."""

    def read(self, batch_size: int, data: DataConfig) -> Iterator[list[tuple[str, Grey, Grey]]]:
        """Read the images batch by batch: name, image (H, W), square (S, S) as in training."""
        names = list(self.paths)

        def read_one(name: str) -> tuple[str, Grey, Grey]:
            grey = read_image(self.paths[name])
            return name, grey, make_square(grey, data.image_size, data.resize)

        for start in range(0, len(names), batch_size):
            yield list(map_threads(read_one, names[start : start + batch_size]))


def find_inputs(folder: Path, data: DataConfig, skip_bad: bool, phases: Phases) -> Inputs:
    """Find and check the images of a folder.

    A folder in BUSI's layout or with images/ and masks/ is checked as for training. Of any other,
    or without masks, every PNG and JPEG file is taken.

    Args:
        folder: of the images.
        data: image size and resizing of the networks.
        skip_bad: leave bad images out instead of refusing the folder.
        phases: shows how far it has come.

    Raises:
        ValueError: there are no images, or bad ones, all listed.
    """
    if not folder.is_dir():
        raise ValueError(f"--images must be a folder of images, got {folder}: no such folder")
    classes = [label for label in CLASSES if (folder / label).is_dir()]
    if any(sample.mask_paths for sample in list_samples(folder)):
        wanted = [] if is_generic(folder) else classes
        own = DataConfig(
            root=str(folder), image_size=data.image_size, resize=data.resize, classes=wanted,
            skip_bad=skip_bad, cache_dir=data.cache_dir,
        )  # fmt: skip
        images = load_images(own, phases)
        samples = find_samples(folder, wanted)
        masks = {path for sample in samples for path in sample.mask_paths}
        files = {sample.name: sample.image_path for sample in samples}
        _name_left_out(folder, {*files.values(), *masks}, ".png in class folders")
        return Inputs(folder, {name: files[name] for name in images.names}, images)
    subfolders = ["images"] if is_generic(folder) else classes
    taken = [folder / name for name in subfolders] or [folder]
    paths = _list_images(taken)
    _name_left_out(
        folder,
        {path for place in taken for path in list_files(place, ENDINGS)},
        f"PNG and JPEG in {', '.join(map(str, taken))}",
    )
    problems = _check_images(paths, lambda done, total: phases("check", done, total))
    return Inputs(folder, _keep_good(folder, paths, problems, skip_bad), None)


def _list_images(folders: Sequence[Path]) -> list[Path]:
    """List the PNG and JPEG files of folders, masks of images beside them left out."""
    found = [path for folder in folders for path in list_files(folder, ENDINGS)]
    images = {path.with_suffix("") for path in found}

    def is_mask(path: Path) -> bool:
        owner = mask_owner(path)
        return owner is not None and path.with_name(owner) in images

    masks = [path for path in found if is_mask(path)]
    if masks:
        logger.info(
            "left out %d files that are masks of others: %s", len(masks), quote_paths(masks)
        )
    return [path for path in found if path not in set(masks)]


def _name_left_out(folder: Path, known: set[Path], taken: str) -> None:
    """Warn of pictures below a folder that nobody would miss otherwise."""
    others = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS and path not in known and not path.name.startswith(".")
    ]
    if others:
        logger.warning(
            "left out %d files (taken are %s): %s",
            *(len(others), taken, quote([str(path.relative_to(folder)) for path in others])),
        )


def quote_paths(paths: Sequence[Path]) -> str:
    """Name the first few of many files."""
    return quote([path.name for path in paths])


def _check_images(paths: Sequence[Path], progress: Callable[[int, int], None]) -> list[Problem]:
    names = Counter(path.stem for path in paths)
    problems = [
        Problem(
            path,
            f"{names[path.stem]} files are named {path.stem}, as their predictions would be",
            "rename all but one",
        )
        for path in paths
        if names[path.stem] > 1
    ]
    for _, found in map_threads(check_image, paths, progress):
        problems += found
    return problems


def _keep_good(
    folder: Path, paths: Sequence[Path], problems: Sequence[Problem], skip_bad: bool
) -> dict[str, Path]:
    bad = {problem.path for problem in problems}
    good = {path.stem: path for path in paths if path not in bad}
    lines = "\n".join(f"  {problem}" for problem in problems)
    if bad and not (skip_bad and good):
        raise ValueError(
            f"{folder} has {len(problems)} errors; correct them, or leave bad images out by "
            f"--skip_bad:\n{lines}"
        )
    if not good:
        raise ValueError(
            f"{folder} holds no image; give a folder with PNG or JPEG files in it, in images/ or "
            f"in {', '.join(CLASSES)}"
        )
    if bad:
        logger.warning("left out %d of %d images of %s:\n%s", len(bad), len(paths), folder, lines)
    return good


def find_seen(inputs: Inputs, trained: set[str], data: DataConfig) -> tuple[list[str], bool]:
    """Find the images that networks were trained on; near-duplicates of them are not looked for.

    Args:
        inputs: the images to predict.
        trained: names of the images of training.
        data: of training; where its folder is not at hand only names can be compared.

    Returns:
        The names among the inputs, and whether they were told by content.
    """
    root = Path(data.root) if data.root else None
    if root is None or not root.is_dir():
        return [name for name in inputs.paths if name in trained], False
    samples = [s for s in list_samples(root, data.classes) if s.name in trained]
    known = set(map_threads(_hash_file, [sample.image_path for sample in samples]))
    found = map_threads(_hash_file, list(inputs.paths.values()))
    return [n for n, digest in zip(inputs.paths, found, strict=True) if digest in known], True


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
