"""A search space as people write it in YAML, compiled to a function of an Optuna trial.

```yaml
search:
  space:
    model.architecture: [unet, smp_unet]                      # choices
    optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}      # a range
    model.base_width: {low: 8, high: 32, step: 8, when: {model.architecture: [unet]}}
    training.batch_size: 8                                    # a constant
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from busi_tune.config import Config
from busi_tune.flags import typed
from busi_tune.settings import FIELDS, flatten, unknown_field

# One study ranks one monitor, on the same split and seed.
_FIXED = ("seed", "storage", "training.monitor", "training.device")
_RANGE_KEYS = {"low", "high", "log", "step", "choices", "value", "when"}


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
    """One searched setting."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether the space fixes the setting instead of searching it."""
        return len(self.choices) == 1

    def suggest(self, trial: Trial) -> Any:
        """Ask the trial for a value."""
        if self.is_constant:
            return self.choices[0]
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        assert self.low is not None and self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = int(self.step or 1)
            return trial.suggest_int(self.name, self.low, self.high, step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)


def compile_space(space: Mapping[str, Any]) -> list[Dimension]:
    """Check a space and bring it to the order in which conditions can be decided.

    Raises:
        ValueError: an unknown field, an empty range, a log of zero, or a condition on a setting
            that the space does not sample before.
    """
    if not space:
        raise ValueError(
            "search.space is empty: name at least one setting and its choices in a --config file"
        )
    dimensions = {name: _read_dimension(name, entry) for name, entry in space.items()}
    ordered: list[Dimension] = []
    waiting = list(dimensions.values())
    while waiting:
        known = {dimension.name for dimension in ordered}
        ready = [d for d in waiting if all(condition in known for condition, _ in d.when)]
        if not ready:
            raise ValueError(_unmet_condition(waiting, dimensions))
        ordered += ready
        waiting = [d for d in waiting if d not in ready]
    return ordered


def sample(space: Sequence[Dimension], trial: Trial) -> dict[str, Any]:
    """Draw one configuration: dotted names to values; a setting whose condition fails is absent."""
    values: dict[str, Any] = {}
    for dimension in space:
        if all(name in values and values[name] in allowed for name, allowed in dimension.when):
            values[dimension.name] = dimension.suggest(trial)
    return values


def _read_dimension(name: str, entry: Any) -> Dimension:
    where = f"search.space, {name}"
    if name not in FIELDS:
        raise ValueError(f"search.space: {unknown_field(name)}")
    if name in _FIXED or name.split(".")[0] in ("search", "kfold", "resources", "data"):
        raise ValueError(
            f"{where}: a trial cannot change this setting; search model, loss, optimizer, augment "
            "or training settings"
        )
    if isinstance(entry, list):
        entry = {"choices": entry}
    elif not isinstance(entry, Mapping):
        entry = {"value": entry}
    unknown = set(entry) - _RANGE_KEYS
    if unknown:
        raise ValueError(
            f"{where}: unknown key {sorted(unknown)[0]}; a range has low, high, log and step, "
            "choices and value stand alone, when makes it conditional"
        )
    conditions = entry.get("when", {})
    if not isinstance(conditions, Mapping):
        raise ValueError(f"{where}: when maps settings to values, not {conditions}")
    when = tuple(
        (condition, tuple(allowed if isinstance(allowed, list) else [allowed]))
        for condition, allowed in conditions.items()
    )
    if "value" in entry:
        return Dimension(name, choices=_typed(name, where, [entry["value"]]), when=when)
    if "choices" in entry:
        if not isinstance(entry["choices"], list) or not entry["choices"]:
            raise ValueError(f"{where}: choices must be a list with at least one value")
        return Dimension(name, choices=_typed(name, where, entry["choices"]), when=when)
    return _read_range(name, where, entry, when)


def _typed(name: str, where: str, values: Sequence[Any]) -> tuple[Any, ...]:
    try:
        return tuple(typed({name: value})[name] for value in values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _read_range(
    name: str, where: str, entry: Mapping[str, Any], when: tuple[tuple[str, tuple[Any, ...]], ...]
) -> Dimension:
    low, high, log, step = (entry.get(key) for key in ("low", "high", "log", "step"))
    if not all(isinstance(b, int | float) and not isinstance(b, bool) for b in (low, high)):
        raise ValueError(f"{where}: a range needs the numbers low and high, not {low} and {high}")
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if isinstance(flatten(Config())[name], float):
        low, high = float(low), float(high)
    elif not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError(f"{where}: whole numbers only, not {low} to {high}")
    if low >= high:
        raise ValueError(f"{where}: the range is empty, low {low} is not below high {high}")
    if log and low <= 0:
        raise ValueError(f"{where}: a log range must start above 0, not at {low}")
    if log and step:
        raise ValueError(f"{where}: log and step exclude each other; leave one out")
    if step is not None and (not isinstance(step, int | float) or step <= 0):
        raise ValueError(f"{where}: step must be above 0, not {step}")
    return Dimension(name, low=low, high=high, log=bool(log), step=step, when=when)


def _unmet_condition(waiting: list[Dimension], dimensions: Mapping[str, Dimension]) -> str:
    for dimension in waiting:
        for condition, _ in dimension.when:
            if condition not in dimensions:
                return (
                    f"search.space, {dimension.name}: its condition names {condition}, "
                    "which the space does not sample; add it or drop the condition"
                )
    names = ", ".join(dimension.name for dimension in waiting)
    return f"search.space: the conditions of {names} wait for each other; break the circle"
