"""Images of the same scan and neighbouring frames of the same lesion, found and grouped.

The rule. Candidates are pairs whose local-contrast thumbnails correlate best over shifts and zooms
(thumbnails.py). A pair is related if at least `matching.MIN_INLIERS` local features agree on one
similarity and the aligned structures then correlate with at least `RELATED` over all the tissue
that both show (matching.py); from `IDENTICAL` on it is the same scan. Groups are what related pairs
connect. A mirrored scan is not looked for.

The margins, on 700 images of BUSI with every pair below 0.97 looked at. Identical scans have 0.948
and more; their lowest are sectors exported again as rectangles. Neighbouring frames have 0.230 to
0.894. Unrelated pairs have at most 0.14 among the 2,703 candidates and 0.203 among the 20,000 pairs
of most similar thumbnails. Local features alone, matched between all images without the thumbnails,
find no identical scan that these miss.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from busi_tune.data.busi import Sample, quote
from busi_tune.data.parallel import PhaseProgress, in_phase, map_threads
from busi_tune.data.pixels import read_image

if TYPE_CHECKING:  # OpenCV: not for --help
    from busi_tune.data.matching import Features
    from busi_tune.data.thumbnails import Structure

RULE = "1"  # of what is found; pairs of another rule are never read
RELATED = 0.22
IDENTICAL = 0.92
LARGEST_GROUP = 10

Level = Literal["identical", "neighbour"]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Pair:
    """Two images of one scan, or of neighbouring frames."""

    first: str
    second: str
    level: Level
    score: float
    """Correlation of the aligned local contrast, at most 1."""
    inliers: int
    """Local features that agree on the alignment."""
    overlap: float
    """Share of the smaller image's tissue that the other shows."""
    matrix: Matrix
    """From pixels of the first image to pixels of the second."""

    @property
    def scale(self) -> float:
        """Enlargement from the first image to the second."""
        return float(abs(np.linalg.det(np.array(self.matrix)[:, :2])) ** 0.5)


def find_pairs(samples: Sequence[Sample], progress: PhaseProgress | None = None) -> list[Pair]:
    """Find the related pairs of a set, in the order of its images.

    Args:
        samples: The images; masks and classes play no part.
        progress: Called after each image or pair.

    Raises:
        ValueError: An image cannot be read.
    """
    from busi_tune.data.matching import align, find_features
    from busi_tune.data.thumbnails import extract_structure, propose_pairs, single_threaded

    def prepare(sample: Sample) -> "tuple[Structure, Features]":
        structure = extract_structure(_read(sample))
        return structure, find_features(structure)

    def verify(candidate: tuple[int, int]) -> Pair | None:
        (one, features), (other, more) = (prepared[index] for index in candidate)
        found = align(one, other, (features, more))
        if found is None or found.correlation < RELATED:
            return None
        level: Level = "identical" if found.correlation >= IDENTICAL else "neighbour"
        first, second = (samples[index].name for index in candidate)
        matrix = unscale(found.matrix, one.scale, other.scale)
        return Pair(first, second, level, found.correlation, found.inliers, found.overlap, matrix)

    with single_threaded():
        prepared = list(map_threads(prepare, samples, in_phase(progress, "features")))
        structures = [structure for structure, _ in prepared]
        candidates = propose_pairs(structures, in_phase(progress, "candidates"))
        verified = list(map_threads(verify, candidates, in_phase(progress, "pairs")))
    return [pair for pair in verified if pair is not None]


def unscale(matrix: np.ndarray, first: float, second: float) -> Matrix:
    """Turn an alignment of structures, (2, 3), into one of the images they were scaled from.

    Args:
        matrix: From pixels of the first structure to those of the second.
        first: Pixels of the first structure per pixel of its image.
        second: The same of the second.
    """
    linear, offset = matrix[:, :2], matrix[:, 2]
    # a pixel's centre lies half a pixel from its corner, and the corners fall together
    offset = (linear @ np.full(2, first / 2 - 0.5) + offset - (second / 2 - 0.5)) / second
    rows = np.column_stack([linear * first / second, offset]).tolist()
    return (tuple(rows[0]), tuple(rows[1]))


def group_images(names: Sequence[str], pairs: Iterable[Pair]) -> dict[str, str]:
    """Name the group of every image: the first of the images that pairs connect.

    Args:
        names: Every image of the set, in its order.
        pairs: Of these images.

    Returns:
        Image to group; a lone image is its own.
    """
    positions = {name: index for index, name in enumerate(names)}
    edges = [(positions[pair.first], positions[pair.second]) for pair in pairs]
    first, second = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    _, components = connected_components(graph, directed=False)
    heads: dict[int, str] = {}
    return {
        name: heads.setdefault(int(component), name)
        for name, component in zip(names, components, strict=True)
    }


def list_members(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """List the images of each group that has more than one."""
    members: dict[str, list[str]] = {}
    for name, group in groups.items():
        members.setdefault(group, []).append(name)
    return {group: names for group, names in members.items() if len(names) > 1}


def find_alarms(groups: Mapping[str, str], pairs: Collection[Pair]) -> list[str]:
    """Say which groups are too large to be believed, with the links most likely wrong."""
    alarms = []
    for group, names in list_members(groups).items():
        if len(names) > LARGEST_GROUP:
            links = sorted((p for p in pairs if groups[p.first] == group), key=lambda p: p.score)
            weakest = [f"{p.first} - {p.second} ({p.score:.2f})" for p in links[:3]]
            alarms.append(
                f"group {group} has {len(names)} images, more than {LARGEST_GROUP}; look at it in "
                f"the contact sheet of python -m busi_tune.data duplicates, its weakest links "
                f"first: {quote(weakest)}; correct groups.csv and give it as data.groups"
            )
    return alarms


def _read(sample: Sample) -> np.ndarray:
    try:
        return read_image(sample.image_path)
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise ValueError(
            f"{sample.image_path} cannot be read: {error}; python -m busi_tune.data check lists "
            "everything that is wrong with the folder"
        ) from error
