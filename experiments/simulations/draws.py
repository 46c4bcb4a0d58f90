"""Made-up cross-validations of equal models: their scores, image by image."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUM_GROUPS = 120
GROUP_SIZES, SHARES = (1, 2, 3), (0.7, 0.2, 0.1)
GROUP_SD = IMAGE_SD = 0.1
"""Of the difference between two models on an image, about as between real networks on BUSI."""


@dataclass(frozen=True)
class Scenario:
    """What a cross-validation of two equal models is made of."""

    name: str
    num_folds: int
    num_repeats: int
    training_sd: float
    """Of the noise of a training: its seed and its fold."""
    sharing_sd: float = 0.0
    """Of the effect of the training part's images, which folds share."""


SCENARIOS = (
    Scenario("no noise of training", 5, 1, 0.0),
    Scenario("noise of training", 5, 1, 0.04),
    Scenario("noise of training", 5, 3, 0.04),
    Scenario("noise of training", 5, 5, 0.04),
    Scenario("noise of training", 10, 1, 0.04),
    Scenario("noise, some by shared images", 5, 1, 0.04, 0.015),
    Scenario("noise, some by shared images", 5, 3, 0.04, 0.015),
    Scenario("noise, half of it by shared images", 5, 1, 0.03, 0.03),
    Scenario("noise, half of it by shared images", 5, 3, 0.03, 0.03),
)


def draw_groups(rng: np.random.Generator) -> Ints:
    """Draw the group of each image."""
    return np.repeat(np.arange(NUM_GROUPS), rng.choice(GROUP_SIZES, NUM_GROUPS, p=SHARES))


def draw_run(scenario: Scenario, rng: np.random.Generator) -> tuple[Ints, Floats, Floats, float]:
    """Draw the differences of a cross-validation of two equal models.

    Returns:
        Groups (N,); differences (N,), the mean over repeats; those of the trainings (k r,); and
        test over train.
    """
    groups, differences, trainings, ratio = draw_models(scenario, 1, rng)
    return groups, differences[0], trainings[0], ratio


def draw_models(
    scenario: Scenario, num_models: int, rng: np.random.Generator
) -> tuple[Ints, Floats, Floats, float]:
    """Draw deviations of several models on the same folds, each as large as a pair's difference.

    Returns:
        As `draw_run`, but with models as the first axis: (M, N) and (M, k r).
    """
    groups = draw_groups(rng)
    number = len(groups)
    own = GROUP_SD * rng.normal(size=(num_models, NUM_GROUPS))[:, groups]
    own += IMAGE_SD * rng.normal(size=(num_models, number))
    pulls = rng.normal(size=(num_models, number))
    scores = np.zeros((num_models, scenario.num_repeats, number))
    trainings, ratios = [], []
    for repeat in range(scenario.num_repeats):
        folds = (rng.permutation(NUM_GROUPS) % scenario.num_folds)[groups]
        for fold in range(scenario.num_folds):
            test = folds == fold
            shared = scenario.sharing_sd * math.sqrt(number) * pulls[:, ~test].mean(axis=1)
            noise = scenario.training_sd * rng.normal(size=num_models) + shared
            scores[:, repeat, test] = own[:, test] + noise[:, None]
            trainings.append(scores[:, repeat, test].mean(axis=1))
            ratios.append(test.sum() / (~test).sum())
    return groups, scores.mean(axis=1), np.stack(trainings, axis=1), float(np.mean(ratios))
