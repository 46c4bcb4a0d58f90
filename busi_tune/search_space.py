"""A search space as people write it in YAML, compiled to a function of an Optuna trial.

```yaml
search:
  space:
    model.architecture: [unet, smp_unet]                      # choices
    optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}      # a range
    model.base_width: {low: 8, high: 32, step: 8, when: {model.architecture: [unet]}}
    training.batch_size: 8                                    # a constant
```

`when` may name a setting that is itself conditional, as deep as wanted; of several, all must hold.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from busi_tune.config import Config
from busi_tune.search_conditions import check_conditions, order_dimensions
from busi_tune.search_dimension import Dimension, Trial, read_dimension

__all__ = [
    "Dimension", "Trial", "compile_space", "image_sizes", "image_ways", "is_active", "sample",
]  # fmt: skip

_SIZE, _WAY = "data.image_size", "data.resize"
_MOST_SIZES = 8


def compile_space(space: Mapping[str, Any]) -> list[Dimension]:
    """Check a space and bring it to the order in which conditions can be decided.

    Raises:
        ValueError: a setting that is unknown or cannot be searched, an entry that says nothing
            that could be drawn, or a condition that cannot hold.
    """
    if not space:
        raise ValueError(
            "search.space is empty: name at least one setting and its choices in a --config file"
        )
    ordered = order_dimensions({name: read_dimension(name, entry) for name, entry in space.items()})
    check_conditions(ordered)
    return ordered


def sample(space: Sequence[Dimension], trial: Trial) -> dict[str, Any]:
    """Draw one configuration: dotted names to values; a setting whose condition fails is absent."""
    values: dict[str, Any] = {}
    for dimension in space:
        if is_active(dimension, values):
            values[dimension.name] = dimension.suggest(trial)
    return values


def image_sizes(config: Config) -> list[int]:
    """Return the sizes at which a search needs its images, the configuration's own first.

    Raises:
        ValueError: they are too many to decode and keep the set at each.
    """
    sizes = {config.data.image_size}
    if _SIZE in config.search.space:
        dimension = read_dimension(_SIZE, config.search.space[_SIZE])
        values = dimension.choices or range(
            int(dimension.low), int(dimension.high) + 1, int(dimension.step or 1)
        )
        if len(values) > _MOST_SIZES:
            raise ValueError(
                f"search.space, {_SIZE}: the images are kept at each of {len(values)} sizes; "
                f"list at most {_MOST_SIZES} as choices"
            )
        sizes |= set(values)
    return sorted(sizes, key=lambda size: (size != config.data.image_size, size))


def image_ways(config: Config) -> list[str]:
    """Return how a search brings its images to squares, the configuration's own way first."""
    own = config.data.resize
    searched = read_dimension(_WAY, config.search.space.get(_WAY, own)).choices
    return [own, *(way for way in searched if way != own)]


def is_active(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a setting's condition holds, given the values of those before it."""
    return all(name in values and values[name] in allowed for name, allowed in dimension.when)
