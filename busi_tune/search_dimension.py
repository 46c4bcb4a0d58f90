"""One searched setting: its entry in a search space, checked, and what it can be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from busi_tune.config import Config
from busi_tune.flags import typed
from busi_tune.settings import FIELDS, check_setting, flatten, unknown_field

_SECTIONS = ("model", "loss", "optimizer", "augment", "training")
_SEARCHED_DATA = ("data.image_size", "data.resize")
_KEYS = {"low", "high", "log", "step", "choices", "value", "when"}
_DEFAULTS = flatten(Config())

# Why a trial cannot change a setting, by its name or section.
_REASONS = {
    "seed": "all trials share one seed, so that they differ in their settings alone",
    "storage": "it says where trainings are kept",
    "training.monitor": "one search ranks by one monitor",
    "training.device": "it says where a training runs, not what it computes",
    "data": f"trials are compared on the same images; of data only "
    f"{' and '.join(_SEARCHED_DATA)} are searched",
    "search": "it says how the search itself goes",
    "kfold": "it is a setting of the cross-validation",
    "resources": "all trials take the same from the cluster",
}


class Trial(Protocol):
    """The part of an Optuna trial that a space uses; `optuna.trial.FixedTrial` has it too."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Propose a real number."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Propose a whole number."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """Propose one of the choices."""


@dataclass(frozen=True)
class Dimension:
    """One searched setting: choices, or a range where there are none."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether the space fixes the setting instead of searching it."""
        return len(self.choices) == 1

    @property
    def is_continuous(self) -> bool:
        """Whether the setting is drawn from a range of real numbers."""
        return not self.choices and isinstance(self.low, float)

    @property
    def highest(self) -> Any:
        """The highest number that the setting can be."""
        return max(self.choices or (self.high,))

    def suggest(self, trial: Trial) -> Any:
        """Ask the trial for a value."""
        if self.is_constant:
            return self.choices[0]
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = int(self.step or 1)
            return trial.suggest_int(self.name, self.low, self.high, step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def allows(self, value: Any) -> bool:
        """Whether the setting can take a value of its own type."""
        if self.choices:
            return value in self.choices
        return self.low <= value <= self.high and (
            self.step is None or abs(math.remainder(value - self.low, self.step)) < 1e-8 * self.step
        )

    def describe(self) -> str:
        """Say what the setting can be."""
        if self.is_constant:
            return f"always {self.choices[0]}"
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        steps = f" in steps of {self.step:g}" if self.step else ""
        return f"from {self.low:g} to {self.high:g}{steps}"


def read_dimension(name: str, entry: Any) -> Dimension:
    """Read the entry of a setting: a range, a list of choices or a constant.

    Raises:
        ValueError: the setting cannot be searched, or the entry says nothing that could be drawn.
    """
    where = f"search.space, {name}"
    _refuse_section(name, entry)
    _refuse_setting(name, where)
    if isinstance(entry, list):
        entry = {"choices": entry}
    elif not isinstance(entry, Mapping):
        entry = {"value": entry}
    _refuse_keys(entry, where)
    when = _read_conditions(entry.get("when", {}), where)
    if "value" in entry:
        return Dimension(name, choices=(_typed(name, entry["value"], where),), when=when)
    if "choices" in entry:
        return Dimension(name, choices=_read_choices(name, entry["choices"], where), when=when)
    return _read_range(name, entry, where, when)


def _refuse_section(name: str, entry: Any) -> None:
    inside = [field.partition(".")[2] for field in FIELDS if field.startswith(f"{name}.")]
    if inside:
        written = next(iter(entry), "") if isinstance(entry, Mapping) else ""
        raise ValueError(
            f"search.space: {name} is a section; a space has its settings in one piece: write "
            f"{name}.{written or min(inside)}"
        )


def _refuse_setting(name: str, where: str) -> None:
    if name not in FIELDS:
        raise ValueError(f"search.space: {unknown_field(str(name))}")
    section = name.partition(".")[0]
    reason = _REASONS.get(name, _REASONS.get(section, ""))
    if name not in _SEARCHED_DATA and reason:
        raise ValueError(
            f"{where}: a trial cannot change this setting, because {reason}; search "
            f"{', '.join(_SECTIONS)} settings, {' or '.join(_SEARCHED_DATA)}"
        )


def _refuse_keys(entry: Mapping[str, Any], where: str) -> None:
    unknown = sorted(str(key) for key in set(entry) - _KEYS)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {unknown[0]}; a range has low, high, log and step, "
            "choices and value stand alone, when makes it conditional"
        )
    given = [key for key in ("value", "choices") if key in entry]
    others = [key for key in entry if key != "when" and key not in given[:1]]
    if given and others:
        raise ValueError(f"{where}: {given[0]} stands alone; leave {', '.join(others)} out")


def _read_conditions(when: Any, where: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    if not isinstance(when, Mapping):
        raise ValueError(f"{where}: when maps settings to values, not {when}")
    conditions = []
    for name, values in when.items():
        if name not in FIELDS:
            raise ValueError(f"{where}: when: {unknown_field(str(name))}")
        values = values if isinstance(values, list) else [values]
        if not values:
            raise ValueError(f"{where}: when: {name} needs at least one value")
        conditions.append((name, tuple(_typed(name, v, f"{where}: when") for v in values)))
    return tuple(conditions)


def _read_choices(name: str, choices: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"{where}: choices must be a list with at least one value")
    values = tuple(_typed(name, value, where) for value in choices)
    double = next((value for value in values if values.count(value) > 1), None)
    if double is not None:
        raise ValueError(f"{where}: {double} stands twice among the choices; name it once")
    return values


def _read_range(
    name: str,
    entry: Mapping[str, Any],
    where: str,
    when: tuple[tuple[str, tuple[Any, ...]], ...],
) -> Dimension:
    if isinstance(_DEFAULTS[name], bool | str):
        raise ValueError(f"{where} is no number, so it has no range; list its choices")
    if "low" not in entry or "high" not in entry:
        raise ValueError(f"{where}: a range needs the numbers low and high")
    low, high = (_typed(name, entry[key], f"{where}: {key}") for key in ("low", "high"))
    log, step = entry.get("log", False), entry.get("step")
    if not isinstance(log, bool):
        raise ValueError(f"{where}: log must be true or false, not {log}")
    if low >= high:
        remedy = "exchange them" if low > high else f"write {low} alone for a constant"
        raise ValueError(
            f"{where}: the range is empty, low {low} is not below high {high}; {remedy}"
        )
    if log and low <= 0:
        raise ValueError(f"{where}: a log range must start above 0, not at {low}")
    if step is not None:
        if log:
            raise ValueError(f"{where}: log and step exclude each other; leave one out")
        step = _read_step(name, step, low, high, where)
    return Dimension(name, low=low, high=high, log=log, step=step, when=when)


def _read_step(name: str, entry: Any, low: float, high: float, where: str) -> float:
    step = float(_convert(name, entry, f"{where}: step"))
    if not step > 0:
        raise ValueError(f"{where}: step must be above 0, not {step:g}")
    if (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        last = low + (high - low) // step * step
        raise ValueError(
            f"{where}: steps of {step:g} from {low:g} do not end at high {high:g}; set high to "
            + (f"{last:g} or " if last > low else "")
            + f"{last + step:g}"
        )
    return step


def _typed(name: str, value: Any, where: str) -> Any:
    """Bring a value to its setting's type, one that a study can keep, and check it alone."""
    value = _convert(name, value, where)
    try:
        check_setting(name, value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return value


def _convert(name: str, value: Any, where: str) -> Any:
    try:
        value = typed({name: value})[name]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not isinstance(value, bool | int | float | str) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError(f"{where}: {value} is no text and no finite number")
    return value


def join_values(values: Sequence[Any]) -> str:
    """Return values as they are read in a sentence."""
    return " or ".join(map(str, values))
