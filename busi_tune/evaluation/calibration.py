"""How far probabilities may be believed: reliability, calibration error and temperature.

Pixels in original size are counted by their rounded logit, so a set of images is a histogram:
(257, 2), background and lesion pixels at each of `LOGITS`. The 8-bit maps would not do: a
temperature moves most what they keep as 0 and 1.

Errors are over pixels, each counting once; of a breast scan most are background far from any
lesion, on which every network is right and sure. An expected calibration error is therefore small
and says most about them: beside it stands that of the `uncertain` pixels, and tumour images are
reported apart (Mehrtash et al. 2020 keep to a box around the object for the same reason).
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Histogram = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LARGEST = 16
"""Logits beyond it, 1.1e-7 from certainty, count as it."""
STEPS = 8
"""Steps of the histogram in a logit of 1."""
LOGITS: Floats = np.arange(-LARGEST * STEPS, LARGEST * STEPS + 1) / STEPS
NUM_BINS = 15
UNCERTAIN = (0.05, 0.95)
TEMPERATURES = (0.05, 20.0)
"""Ends of the range in which a temperature is looked for."""


def count_logits(probabilities: "Tensor", truth: npt.NDArray[np.bool_]) -> Histogram:
    """Count the pixels of a map (H, W) in [0, 1] by their rounded logit and their truth (H, W).

    Near 1, float32 has few steps left: logits above 13 are coarse.
    """
    import torch

    steps = torch.nan_to_num(STEPS * torch.logit(probabilities), nan=-LARGEST * STEPS)
    limit = LARGEST * STEPS
    places = (steps.round().clamp(-limit, limit) + limit).to(torch.int16).cpu().numpy()
    counts = np.bincount((2 * places + truth).ravel(), minlength=2 * len(LOGITS))
    return counts.reshape(len(LOGITS), 2).astype(np.int64)


def scale_probabilities(temperature: float = 1.0) -> Floats:
    """Return the probability of each of `LOGITS` at a temperature: sigmoid(logit / temperature)."""
    result: Floats = 1 / (1 + np.exp(-LOGITS / temperature))
    return result


def bin_pixels(histogram: Histogram, temperature: float = 1.0) -> Floats:
    """Sort pixels into 15 bins of equal width by their probability of lesion.

    Guo et al. 2017 sort by the confidence in the predicted class; with two classes the probability
    of one tells over- from underestimated lesion as well.

    Returns:
        (15, 3): pixels of each bin, the sum of their probabilities, and how many are lesion. The
        rows of several histograms may be added.
    """
    p = scale_probabilities(temperature)
    pixels = histogram.sum(axis=1)
    places = np.minimum((p * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    columns = (pixels, pixels * p, histogram[:, 1])
    return np.stack([np.bincount(places, each, NUM_BINS) for each in columns], axis=1)


def calibration_error(histogram: Histogram, temperature: float = 1.0) -> float:
    """Compute the expected calibration error (Guo et al. 2017) over pixels, in [0, 1].

    The distance of mean probability and share of lesion in each bin, weighted by its pixels; not a
    number without pixels.
    """
    pixels, expected, lesion = bin_pixels(histogram, temperature).T
    total = pixels.sum()
    return float(np.abs(expected - lesion).sum() / total) if total else float("nan")


def log_loss(histogram: Histogram, temperature: float = 1.0) -> float:
    """Compute the negative log-likelihood in nats, mean over pixels."""
    scaled = LOGITS / temperature
    return _mean(histogram, np.logaddexp(0, scaled), np.logaddexp(0, -scaled))


def brier_score(histogram: Histogram, temperature: float = 1.0) -> float:
    """Compute the squared distance of probability and truth, mean over pixels."""
    p = scale_probabilities(temperature)
    return _mean(histogram, p**2, (1 - p) ** 2)


def uncertain(histogram: Histogram) -> Histogram:
    """Keep the pixels whose probability, as predicted, lies from 0.05 to 0.95.

    They are chosen before a temperature is applied, so that both errors are over the same pixels.
    """
    p = scale_probabilities()
    inside = (p >= UNCERTAIN[0]) & (p <= UNCERTAIN[1])
    return histogram * inside[:, None]


def fit_temperature(histogram: Histogram) -> float:
    """Find the temperature of the lowest negative log-likelihood (Guo et al. 2017).

    Above 1 a network was too sure. Masks at 0.5 do not change. Where the likelihood grows without
    end, as without any lesion, an end of `TEMPERATURES` is returned.

    Args:
        histogram: of the validation part, some pixels at least.
    """
    from scipy.optimize import minimize_scalar

    assert histogram.sum() > 0
    found = minimize_scalar(
        lambda power: log_loss(histogram, float(np.exp(power))),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def _mean(histogram: Histogram, of_background: Floats, of_lesion: Floats) -> float:
    """Average over pixels a score that depends on their logit and on what they are."""
    total = histogram.sum()
    costs = np.stack([of_background, of_lesion], axis=1)
    return float((histogram * costs).sum() / total) if total else float("nan")
