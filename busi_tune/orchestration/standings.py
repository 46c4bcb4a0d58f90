"""How a run stands: what has ended and how, and which configurations lead."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from busi_tune.config import Config
from busi_tune.plan import Outcome, Training
from busi_tune.settings import flatten

STATES = {
    "finished": "finished", "early_stopped": "finished", "pruned": "pruned", "failed": "failed",
}  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"
_SHOWN = ("data", "augment", "model", "loss", "optimizer", "training")
_ALONE = ("model.architecture", "model.encoder", "optimizer.name", "optimizer.schedule")
_UNSHOWN = ("data.chosen_on",)


@dataclass
class Contender:
    """A configuration with its finished trainings: a trial with its inner folds, or a model."""

    name: str
    settings: str
    """Those in which it differs from the run's configuration, in short."""
    num_needed: int = 1
    """Trainings without which its mean cannot be set against another's."""
    again: bool = False
    """Whether it is a refit, whose validation parts are others than the search's."""
    values: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean of the best values of its trainings."""
        return sum(self.values) / len(self.values)

    @property
    def is_ranked(self) -> bool:
        """Whether enough of its trainings have ended; a trial stopped between folds never is."""
        return len(self.values) >= self.num_needed


class Standings:
    """Counts ends, ranks contenders and keeps the best value over time."""

    def __init__(self, config: Config) -> None:
        """Begin with nothing in a run of this configuration."""
        self._base = config
        self._sign = -1 if config.training.monitor == "val_loss" else 1
        self._contenders: dict[tuple[str, ...], Contender] = {}
        self.counts = dict.fromkeys(STATES.values(), 0)
        self.history: list[float] = []
        """The best value after each training that has one."""
        self.best: tuple[float, str, int, float | None] | None = None
        """Best mean, who has it, after how many ends and seconds; None of an earlier start."""

    @property
    def num_ended(self) -> int:
        """Trainings that have ended."""
        return sum(self.counts.values())

    def add(self, training: Training, outcome: Outcome, seconds: float | None) -> None:
        """Take in an end.

        Args:
            training: what has ended.
            outcome: how.
            seconds: since this start of the run; None where it ended in an earlier one.
        """
        self.counts[STATES[outcome.status]] += 1
        value = outcome.result.get("best_value")
        if STATES[outcome.status] != "finished" or value is None:
            return
        name = contender_name(training)
        identity = training.identity
        of_trial = "fold" in identity and "model" not in identity
        # Trials of several searches, one per fold, share their numbers.
        apart = "" if {"fold", "refit"} & set(identity) else training.split
        if (name, apart) not in self._contenders:
            settings = describe_settings(training.config, self._base)
            needed = self._base.search.inner_folds if of_trial else 1
            self._contenders[name, apart] = Contender(
                name, settings, needed, again="refit" in identity
            )
        self._contenders[name, apart].values.append(value)
        self._note_best(seconds)

    def _note_best(self, seconds: float | None) -> None:
        best = next((each for each in self._ranked() if not each.again), None)
        if best is None:
            return
        if self.best is None or (best.mean, best.name) != self.best[:2]:
            self.best = (best.mean, best.name, self.num_ended, seconds)
        self.history.append(best.mean)

    def leaders(self, number: int) -> list[Contender]:
        """The contenders with the best means, best first; of equals the earlier one."""
        return self._ranked()[:number]

    def _ranked(self) -> list[Contender]:
        # The live table reads them in a thread of its own while others are added.
        ranked = [each for each in list(self._contenders.values()) if each.is_ranked]
        return sorted(ranked, key=lambda each: -self._sign * each.mean)


def contender_name(training: Training) -> str:
    """Name what a training is one of: a model, its refits, or a trial with inner folds."""
    identity = training.identity
    if "model" in identity:
        return f"{identity['model']} again" if "refit" in identity else str(identity["model"])
    return f"trial {identity['trial']}" if "fold" in identity else training.name


def describe_settings(config: Config, base: Config) -> str:
    """Name the settings in which a training differs from its run's configuration, in short.

    A setting goes by the last part of its name, a network or optimiser by its value alone.
    """
    before = flatten(base)
    parts = []
    for name, value in flatten(config).items():
        section, _, last = name.rpartition(".")
        if value != before[name] and section in _SHOWN and name not in _UNSHOWN:
            parts.append(_short(value) if name in _ALONE else f"{last} {_short(value)}")
    return ", ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return PurePath(value).name if isinstance(value, str) else str(value)


def draw_sparkline(values: Sequence[float], width: int) -> str:
    """Draw numbers as a line of bars, the last of each stretch where they are many."""
    if len(values) > width:
        ends = [round((i + 1) * len(values) / width) - 1 for i in range(width)]
        values = [values[end] for end in ends]
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)
