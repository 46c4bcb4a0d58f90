"""The audit of a cross-validation: near-duplicates that its folds, and naive ones, separate."""

import csv
import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.audit import Leak, Parts, find_leaks
from busi_tune.data.busi import find_samples
from busi_tune.data.cache import ImageSet, cache_folder, find_root
from busi_tune.data.groups import load_pairs
from busi_tune.data.splits import Split, name_parts
from busi_tune.results.pages.audit import NAIVE, OWN, describe_audit, write_audit
from busi_tune.run_directory import write_atomic

logger = logging.getLogger(__name__)


def audit_folds(
    splits: Mapping[str, Split],
    make_naive: Callable[[], Mapping[str, Split]],
    images: ImageSet,
    config: Config,
    run_dir: Path,
) -> None:
    """Write which test images have a twin in training, as audit.csv and as a table, and say it.

    Args:
        splits: the folds of the run.
        make_naive: draws as many folds of the same images with the same seed over single images.
        images: the set; its near-duplicates are found where that was not done before.
        config: the run's configuration.
        run_dir: its directory; an audit that is there already is kept.
    """
    path = run_dir / run_directory.AUDIT
    if path.exists():
        return
    used = set(images.names)
    samples = [
        sample
        for sample in find_samples(find_root(config.data), config.data.classes)
        if sample.name in used
    ]
    pairs = load_pairs(samples, images.data_hash, cache_folder(config.data))
    leaks = {
        kind: find_leaks({key: _parts(split, images) for key, split in folds.items()}, pairs)
        for kind, folds in ((OWN, splits), (NAIVE, make_naive()))
    }
    write_atomic(path, _to_csv(leaks))
    write_audit(run_dir)
    for line in describe_audit(run_dir):
        logger.info("%s", line)


def _parts(split: Split, images: ImageSet) -> Parts:
    named = name_parts(split, images)
    return Parts(tuple(named["train"]), tuple(named["test"]))


def _to_csv(leaks: Mapping[str, list[Leak]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("folds", "split", "image", "twin", "level"))
    writer.writerows(
        (kind, leak.fold, leak.image, leak.twin, leak.level)
        for kind, found in leaks.items()
        for leak in found
    )
    return text.getvalue()
