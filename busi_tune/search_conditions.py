"""The conditions of a search space: their order, and whether each can ever hold.

A condition is a conjunction, and so is everything that it depends on in turn. A setting is
reached if, for every other one that it depends on, some value satisfies all that is asked of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from busi_tune.search_dimension import Dimension, join_values


class _Demand(NamedTuple):
    """What one setting's condition asks of another."""

    by: str
    of: str
    values: tuple[Any, ...]


def order_dimensions(dimensions: Mapping[str, Dimension]) -> list[Dimension]:
    """Return the settings in an order in which every condition can be decided.

    Raises:
        ValueError: a condition names a setting that the space does not sample, or conditions go
            round in a circle.
    """
    for dimension in dimensions.values():
        for condition, _ in dimension.when:
            if condition not in dimensions:
                raise ValueError(
                    f"search.space, {dimension.name}: its condition names {condition}, which the "
                    "space does not sample; add it or drop the condition"
                )
    ordered: dict[str, Dimension] = {}
    waiting = dict(dimensions)
    while waiting:
        ready = {n: d for n, d in waiting.items() if all(c in ordered for c, _ in d.when)}
        if not ready:
            circle = " -> ".join(_find_circle(waiting))
            raise ValueError(
                f"search.space: conditions go round in a circle, {circle}: break it by dropping "
                "one of them"
            )
        ordered |= ready
        waiting = {name: d for name, d in waiting.items() if name not in ready}
    return list(ordered.values())


def check_conditions(ordered: Sequence[Dimension]) -> None:
    """Refuse conditions that can never hold.

    Args:
        ordered: the settings, each after those that its condition names.

    Raises:
        ValueError: a value that the other setting never takes, a condition on a range of real
            numbers, or conditions that exclude each other.
    """
    by_name = {dimension.name: dimension for dimension in ordered}
    demands: dict[str, list[_Demand]] = {}
    for dimension in ordered:
        own = [_Demand(dimension.name, of, values) for of, values in dimension.when]
        for demand in own:
            _refuse_value(demand, by_name[demand.of])
        inherited = [demand for of, _ in dimension.when for demand in demands[of]]
        demands[dimension.name] = list(dict.fromkeys([*own, *inherited]))
        _refuse_contradiction(dimension.name, demands[dimension.name])


def _refuse_value(demand: _Demand, asked: Dimension) -> None:
    where = f"search.space, {demand.by}"
    if asked.is_continuous:
        raise ValueError(
            f"{where}: its condition names {demand.of}, a range of real numbers, of which single "
            "values are hardly ever drawn; list its values as choices"
        )
    for value in demand.values:
        if not asked.allows(value):
            raise ValueError(
                f"{where}: its condition waits for {demand.of} to be {value}, but that is "
                f"{asked.describe()}; change the condition, or what {demand.of} can be"
            )


def _refuse_contradiction(name: str, demands: Iterable[_Demand]) -> None:
    by_asked: dict[str, list[_Demand]] = {}
    for demand in demands:
        by_asked.setdefault(demand.of, []).append(demand)
    for of, asking in by_asked.items():
        if not set.intersection(*(set(demand.values) for demand in asking)):
            needs = " and ".join(f"{join_values(d.values)} (asked by {d.by})" for d in asking)
            raise ValueError(
                f"search.space, {name} is never reached: {of} would have to be {needs} at once; "
                "change one of these conditions"
            )


def _find_circle(waiting: Mapping[str, Dimension]) -> list[str]:
    path = [next(iter(waiting))]
    while True:
        following = next(c for c, _ in waiting[path[-1]].when if c in waiting)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
