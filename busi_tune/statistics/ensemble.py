"""Greedy ensembles: Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.

Models are added one by one with replacement, always that which makes the average score best; how
often a model was taken is its weight. Selection overfits what it looks at, so whoever judges an
ensemble must have kept images from it.
"""

from collections.abc import Callable

NUM_ROUNDS = 10
"""Models added at most; a weight is a multiple of a tenth at the finest."""

Weights = tuple[int, ...]
"""How often each model was taken."""

_EQUAL = 1e-12  # means of equal values may differ in the last bit


def select_greedily(
    score: Callable[[Weights], float], num_models: int, num_rounds: int = NUM_ROUNDS
) -> Weights:
    """Add models until `num_rounds` and return the best weights on the way.

    Args:
        score: of weights, larger is better; asked at most `num_rounds * num_models` times.
        num_models: of the library, at least 1.
        num_rounds: models added.

    Returns:
        The weights; of equals those with fewer models in all, then those of the earlier model.
    """
    weights: Weights = (0,) * num_models
    best, best_score = weights, float("-inf")
    for _ in range(num_rounds):
        candidates = [add_model(weights, model) for model in range(num_models)]
        weights = max_first(candidates, score)
        if score(weights) > best_score + _EQUAL:
            best, best_score = weights, score(weights)
    return best


def select_single(score: Callable[[Weights], float], num_models: int) -> Weights:
    """Return the weights of the best model alone, of equals the earlier one."""
    none: Weights = (0,) * num_models
    return max_first([add_model(none, model) for model in range(num_models)], score)


def add_model(weights: Weights, model: int) -> Weights:
    """Take a model once more."""
    return tuple(weight + (position == model) for position, weight in enumerate(weights))


def max_first(candidates: list[Weights], score: Callable[[Weights], float]) -> Weights:
    """Return the candidate with the highest score, of equals the first."""
    best = candidates[0]
    for candidate in candidates[1:]:
        if score(candidate) > score(best) + _EQUAL:
            best = candidate
    return best
