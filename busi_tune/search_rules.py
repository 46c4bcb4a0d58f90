"""What the settings of a search may be, told without Optuna."""

import math
import re
from collections.abc import Iterable

from busi_tune.config import Config
from busi_tune.config_jobs import SearchConfig

OBJECTIVES = ("monitor", "parameters", "milliseconds")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def read_duration(text: str) -> float | None:
    """Read `2h`, `90m`, `45s` or `1h30m` as seconds; None for an empty text.

    Raises:
        ValueError: another text, or no time at all.
    """
    if not text:
        return None
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    seconds = 0.0
    if found:
        seconds = sum(
            float(number or 0) * unit
            for number, unit in zip(found.groups(), _UNITS.values(), strict=True)
        )
    if seconds <= 0:
        raise ValueError(f"search.budget is a time such as 2h, 90m, 45s or 1h30m, not {text!r}")
    return seconds


def rules_of_search(config: Config) -> Iterable[tuple[str, bool]]:
    """Yield every rule of a search and whether it holds."""
    search = config.search
    yield from _rules_of_objectives(search)
    yield from _rules_of_rungs(config)
    try:
        read_duration(search.budget)
    except ValueError as error:
        yield str(error), False
    yield (
        f"search.race_level is between 0 and 1, not {search.race_level}",
        0 < search.race_level < 1,
    )
    target, loss = search.target, config.training.monitor == "val_loss"
    yield (
        f"search.target is a {'finite loss' if loss else 'Dice from 0 to 1'}, not {target}",
        target is None or (math.isfinite(target) and (loss or 0 <= target <= 1)),
    )
    yield (
        "search.inner_folds race by Dice per image: set training.monitor to val_dice or "
        f"val_dice_tumour, not {config.training.monitor}",
        search.inner_folds == 1 or config.training.monitor != "val_loss",
    )
    yield (
        "search.baselines are compared with a refitted winner: set search.refit to at least 1",
        not search.baselines or search.refit > 0,
    )


def _rules_of_objectives(search: SearchConfig) -> Iterable[tuple[str, bool]]:
    names = search.objectives
    yield (
        f"search.objectives begin with monitor, the first of {', '.join(names) or 'none'} is not",
        names[:1] == ["monitor"],
    )
    unknown = [name for name in names if name not in OBJECTIVES]
    yield f"search.objectives are some of {', '.join(OBJECTIVES)}, not {unknown}", not unknown
    for setting, words in (("objectives", names), ("trackers", search.trackers)):
        yield f"search.{setting} name something twice: {', '.join(words)}", _all_differ(words)
    yield (
        f"several search.objectives need search.pruner none, not {search.pruner}: no single value "
        "says which trial is behind",
        len(names) < 2 or search.pruner == "none",
    )


def _rules_of_rungs(config: Config) -> Iterable[tuple[str, bool]]:
    search, longest = config.search, config.training.max_seconds
    yield f"search.min_seconds must be above 0, not {search.min_seconds}", search.min_seconds > 0
    if search.pruner == "none" or search.rung_unit == "epochs":
        return
    yield (
        "search.pruner median compares trials epoch by epoch: set search.rung_unit to epochs, or "
        "search.pruner to halving or hyperband",
        search.pruner != "median",
    )
    yield (
        f"rungs in seconds need trainings that take longer than the first, search.min_seconds "
        f"{search.min_seconds:g}: training.max_seconds is {longest:g}",
        longest > search.min_seconds,
    )


def _all_differ(words: list[str]) -> bool:
    return len(set(words)) == len(words)
