"""protocol.json: which images are tested by which trainings, and how they are scored.

Two runs whose protocols agree may stand in one table. What a model is and how it is trained is not
part of it; the configuration has that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet, join_hashes
from busi_tune.data.splits import PARTS, Split, name_parts
from busi_tune.kfold_models import search_settings
from busi_tune.results.read import KfoldRun
from busi_tune.run_directory import read_json
from busi_tune.settings import dotted

METRICS_VERSION = 1
"""To be raised when a metric of the same name gives other values than before."""

DEFINITIONS = {
    "dice": "2 tp / (2 tp + fp + fn), pixels of one image in its own size",
    "iou": "tp / (tp + fp + fn)",
    "precision": "tp / (tp + fp)",
    "recall": "tp / (tp + fn)",
    "specificity": "tn / (tn + fp)",
    "hd95": "larger of the two directed 95th percentiles of distances between borders, pixels",
    "nsd": "share of both borders within 2 pixels of the other one",
}
SCORING = {
    "masks": "the union of all mask files of an image",
    "both_empty": "ratios and nsd 1, hd95 0",
    "one_sided_empty": "ratios and nsd 0, hd95 the image's diagonal",
    "averaging": "per image, then over images",
}
RESIZING = {
    "stretch": "images stretched to a square for the network; probabilities resized bilinearly to "
    "the image's own size, rounded to 8 bits, then thresholded",
    "letterbox": "images brought to a square for the network in their own proportions, with black "
    "borders; probabilities without the borders resized bilinearly to the image's own size, "
    "rounded to 8 bits, then thresholded",
}
_NO_PATIENTS = (
    "not by patients: BUSI has no patient identifiers, so that images of one woman may lie in "
    "training and test"
)
GROUPS = {
    "auto": f"Training and test are disjoint by groups of near-duplicates, {_NO_PATIENTS} where "
    "they do not resemble each other.",
    "none": f"Splits are drawn over single images: near-duplicates may lie in training and test. "
    f"They are disjoint by images, {_NO_PATIENTS}.",
    "csv": "Training and test are disjoint by the groups of a file; by patients only where those "
    "groups hold whole patients, which for BUSI nobody can know: it has no patient identifiers.",
}
"""What a split promises, by how its groups were found."""

LIBRARIES = ("numpy", "scipy", "torch", "segmentation_models_pytorch", "pillow")

# Hashes decide: a file of the groups that `auto` finds is the same grouping. Libraries are told of.
_NOT_COMPARED = (
    "version",
    "data.excluded",
    "groups.found",
    "groups.statement",
    "metrics.libraries",
)


@dataclass(frozen=True)
class Facts:
    """What a protocol is made of."""

    config: Config
    data_hash: str
    labels: Mapping[str, str]
    """Class of each image."""
    groups: Mapping[str, str]
    splits: Mapping[str, Mapping[str, Sequence[str]]]
    """Names of the images by part, of each split."""
    seed: int
    versions: Mapping[str, str | None]


def describe_run(
    config: Config,
    images: ImageSet,
    splits: Mapping[str, Split],
    excluded: Mapping[str, Any],
    versions: Mapping[str, str | None],
) -> dict[str, Any]:
    """Write down the protocol of a run that is about to begin.

    Args:
        config: the run's configuration.
        images: the set.
        splits: its hold-out split or folds.
        excluded: images that the folder has beside them, as of `find_excluded`.
        versions: of the installed packages.
    """
    facts = Facts(
        config=config,
        data_hash=images.data_hash,
        labels=dict(zip(images.names, images.labels, strict=True)),
        groups=dict(zip(images.names, images.groups, strict=True)),
        splits={key: name_parts(split, images) for key, split in splits.items()},
        seed=config.seed,
        versions=versions,
    )
    return build_protocol(facts, DEFINITIONS, excluded)


def build_protocol(
    facts: Facts, metrics: Sequence[str] | Mapping[str, str], excluded: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Arrange the facts as the content of protocol.json."""
    config = facts.config
    found = config.data.groups if config.data.groups in ("auto", "none") else "csv"
    own = [dotted(settings) for settings in config.kfold.models.values()]
    own += [search_settings(config)] if config.kfold.search else []
    thresholds = {float(s.get("training.threshold", config.training.threshold)) for s in own}
    return {
        "version": 1,
        "data": {
            "hash": facts.data_hash,
            "num_images": len(facts.labels),
            "images_per_class": _count(facts.labels.values()),
            "excluded": excluded,
        },
        "groups": {
            "found": found,
            "num_groups": len(set(facts.groups.values())),
            "hash": hash_groups(facts.groups),
            "statement": GROUPS[found],
        },
        "folds": _describe_folds(facts),
        "scoring": {
            **SCORING,
            "resize": RESIZING[config.data.resize],
            "image_size": config.data.image_size,
            "thresholds": sorted(thresholds or {config.training.threshold}),
        },
        "metrics": {
            "version": METRICS_VERSION,
            "definitions": {name: DEFINITIONS[name] for name in metrics},
            "libraries": {name: facts.versions.get(name) for name in LIBRARIES},
        },
    }


def _describe_folds(facts: Facts) -> dict[str, Any]:
    first = next(iter(facts.splits))
    kfold, tested = "/" in first, bool(facts.splits[first]["test"])
    listed = [
        f"{key} {part} {name}"
        for key in sorted(facts.splits)
        for part in PARTS
        for name in sorted(facts.splits[key][part])
    ]
    return {
        "kind": "folds" if kfold else "hold-out" if tested else "all",
        "num_folds": facts.config.kfold.num_folds if kfold else 1,
        "num_repeats": facts.config.kfold.num_repeats if kfold else 1,
        "seed": facts.seed,
        "parts": "test: the fold; validation: a stratified, grouped tenth of the rest; train"
        if tested
        else "every image trains, none validates or tests",
        "hash": join_hashes(listed),
    }


def hash_groups(groups: Mapping[str, str]) -> str:
    """Hash which images belong together, whatever their groups are called."""
    first: dict[str, str] = {}
    for name in sorted(groups):
        first.setdefault(groups[name], name)
    return join_hashes(f"{name}\t{first[groups[name]]}" for name in sorted(groups))


def _count(labels: Iterable[str]) -> dict[str, int]:
    names, counts = np.unique(list(labels), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def read_protocol(run: KfoldRun) -> dict[str, Any]:
    """Read a run's protocol; that of a run from before there was one is derived from its files.

    Raises:
        ValueError: the file is damaged, or there is none and the others do not tell everything.
    """
    path = run.folder / run_directory.PROTOCOL
    if not path.exists():
        return derive_protocol(run)
    try:
        protocol: dict[str, Any] = read_json(path)
        if protocol["version"] != 1:
            raise ValueError(f"version {protocol['version']} is not known")
        for section in ("data", "groups", "folds", "scoring", "metrics"):
            protocol[section].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no protocol of a run: {type(error).__name__} {error}; delete it, and it "
            "is derived from the run's other files"
        ) from error
    return protocol


def derive_protocol(run: KfoldRun) -> dict[str, Any]:
    """Make a protocol from configuration, splits, environment and the rows of the images.

    Raises:
        ValueError: one of the files is missing or damaged, or not every image has a row yet.
    """
    try:
        manifest = read_json(run.folder / run_directory.SPLITS)
        splits = {k: {p: list(s[p]) for p in PARTS} for k, s in manifest["splits"].items()}
        environment = read_json(run.folder / run_directory.ENVIRONMENT)
        versions, data_hash = environment["packages"], manifest["data_hash"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{run.folder} has no {run_directory.PROTOCOL}, and it cannot be derived: "
            f"{type(error).__name__} {error}; restore the file, or make the run again"
        ) from error
    names = {name for parts in next(iter(splits.values())).values() for name in parts}
    rows = run.images.drop_duplicates("image").set_index("image")
    missing = sorted(names - set(rows.index))
    if missing:
        raise ValueError(
            f"{run.folder} has no {run_directory.PROTOCOL}, and classes and groups are known only "
            f"of tested images, {len(missing)} were not ({missing[0]}): finish it by --resume, "
            "which writes its protocol"
        )
    facts = Facts(
        config=run.config,
        data_hash=data_hash,
        labels={name: str(rows["label"][name]) for name in names},
        groups={name: str(rows["group"][name]) for name in names},
        splits=splits,
        seed=run.config.seed,
        versions=versions,
    )
    return build_protocol(facts, [name for name in DEFINITIONS if name in run.images], None)


def find_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """List what must be equal and is not, as `folds.seed: 0 -> 1`.

    A metric that one of the two lacks is no difference: its cells stay empty.
    """
    before, after = dict(_leaves(first)), dict(_leaves(second))
    names = [n for n in (*before, *(k for k in after if k not in before)) if _is_compared(n)]
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in names
        if before.get(name) != after.get(name)
        and not (name.startswith("metrics.definitions.") and (name in before) != (name in after))
    ]


def find_other_libraries(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """List the libraries behind the metrics that differ in version."""
    before, after = first["metrics"]["libraries"], second["metrics"]["libraries"]
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in LIBRARIES
        if before.get(name) != after.get(name)
    ]


def _is_compared(name: str) -> bool:
    return not any(name == skip or name.startswith(f"{skip}.") for skip in _NOT_COMPARED)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
