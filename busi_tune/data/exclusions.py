"""The images of a folder that a run leaves out."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from busi_tune.data.busi import METADATA, apply_metadata, is_generic, list_samples


def find_excluded(root: Path, classes: Sequence[str], used: Collection[str]) -> dict[str, Any]:
    """Say what a folder has beside the images that are used.

    Args:
        root: The folder.
        classes: Those that were asked for; empty: all.
        used: Names of the images that are used.

    Returns:
        `classes`: the number of images of each class that was not asked for; `bad_images`: the
        names of the others, which failed the check and were skipped.
    """
    samples = list_samples(root, classes)
    if is_generic(root):
        samples = apply_metadata(samples, root / METADATA)
    others = Counter(s.label for s in samples if classes and s.label not in classes)
    wanted = [sample.name for sample in samples if sample.label not in others]
    return {
        "classes": dict(sorted(others.items())),
        "bad_images": sorted(set(wanted) - set(used)),
    }
