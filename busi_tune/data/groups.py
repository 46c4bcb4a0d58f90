"""Groups of near-duplicates for a set of images: found once per content, then read."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from busi_tune.data.busi import Sample
from busi_tune.data.duplicates import (
    RULE,
    Pair,
    find_alarms,
    find_pairs,
    group_images,
)
from busi_tune.data.parallel import PhaseProgress
from busi_tune.run_directory import locked, write_json

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 600.0


def load_pairs(
    samples: Sequence[Sample],
    data_hash: str,
    cache_folder: Path,
    progress: PhaseProgress | None = None,
) -> list[Pair]:
    """Read the near-duplicates of a set, or find and keep them where that was not done before.

    Args:
        samples: The images.
        data_hash: Hash of names and contents of these images.
        cache_folder: Where pairs are kept.
        progress: As in `find_pairs`.

    Raises:
        ValueError: An image cannot be read.
    """
    entry = cache_folder / f"pairs-{data_hash[:24]}-{RULE}"
    path = entry / "pairs.json"
    with locked(entry, _WAIT_SECONDS):
        try:
            return [_build_pair(row) for row in json.loads(path.read_text())]
        except FileNotFoundError:
            logger.info("looking once for near-duplicates among %d images", len(samples))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged and is made again: %s", path, error)
        pairs = find_pairs(samples, progress)
        write_json(path, [asdict(pair) for pair in pairs])
        return pairs


def _build_pair(row: dict[str, object]) -> Pair:
    pair = Pair(**row)  # type: ignore[arg-type]
    first, second = pair.matrix
    return replace(pair, matrix=(tuple(first), tuple(second)))  # type: ignore[arg-type]


def unite_groups(samples: Sequence[Sample], pairs: Sequence[Pair]) -> list[Sample]:
    """Give the samples groups that hold what they held and every related pair.

    A group that grows too large is warned of.
    """
    known = {sample.name: sample.group for sample in samples}
    for alarm in find_alarms(group_images(list(known), pairs), pairs):
        logger.warning("%s", alarm)
    linked = [replace(p, first=known[p.first], second=known[p.second]) for p in pairs]
    united = group_images(list(dict.fromkeys(known.values())), linked)
    return [replace(sample, group=united[sample.group]) for sample in samples]
