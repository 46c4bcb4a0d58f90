import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as oracle_log_loss
from torchmetrics.functional.classification import binary_calibration_error

from busi_tune.evaluation.calibration import (
    LOGITS,
    NUM_BINS,
    TEMPERATURES,
    Histogram,
    bin_pixels,
    brier_score,
    calibration_error,
    count_logits,
    fit_temperature,
    log_loss,
    scale_probabilities,
    uncertain,
)


def make_histogram(seed: int = 0) -> Histogram:
    """A few pixels at every logit."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 9, len(LOGITS))
    lesion = generator.binomial(pixels, np.linspace(0.1, 0.7, len(LOGITS)))
    return np.stack([pixels - lesion, lesion], axis=1)


def make_overconfident(temperature: float) -> Histogram:
    """Logits of a network that would be calibrated at a temperature."""
    lesion = 1e6 * scale_probabilities(temperature)
    return np.stack([1e6 - lesion, lesion], axis=1).round().astype(np.int64)


def at_logit(logit: float, background: int, lesion: int) -> Histogram:
    histogram = np.zeros((len(LOGITS), 2), dtype=np.int64)
    histogram[np.searchsorted(LOGITS, logit)] = background, lesion
    return histogram


def single_pixels(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """The probability and the truth of every pixel."""
    p = np.repeat(scale_probabilities(), 2)
    truth = np.tile([0, 1], len(LOGITS))
    return np.repeat(p, histogram.ravel()), np.repeat(truth, histogram.ravel())


@pytest.mark.parametrize("logit", [-20.0, -16.0, -3.1, 0.0, 0.06, 0.07, 2.5, 9.4, 40.0])
@pytest.mark.parametrize("lesion", [False, True])
def test_a_pixel_is_counted_at_the_logit_nearest_to_its_own(logit: float, lesion: bool) -> None:
    probabilities = torch.tensor([[logit]]).sigmoid()
    counts = count_logits(probabilities, np.array([[lesion]]))
    ((place, column),) = np.argwhere(counts)
    assert LOGITS[place] == np.clip(round(8 * logit) / 8, -16, 16)
    assert column == lesion


def test_all_pixels_of_a_map_are_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(50, 60, generator=generator)
    truth = (logits + torch.randn(50, 60, generator=generator) > 0).numpy()
    counts = count_logits(logits.sigmoid(), truth)
    assert counts.shape == (257, 2)
    assert counts.sum(axis=0).tolist() == [(~truth).sum(), truth.sum()]
    assert LOGITS @ counts.sum(axis=1) / 3000 == pytest.approx(logits.mean().item(), abs=0.003)


def test_temperature_divides_the_logits() -> None:
    p = scale_probabilities(3.0)
    np.testing.assert_allclose(np.log(p / (1 - p)), LOGITS / 3)
    assert ((p >= 0.5) == (scale_probabilities() >= 0.5)).all()


def test_scores_are_those_of_other_libraries_on_single_pixels() -> None:
    histogram = make_histogram()
    p, truth = single_pixels(histogram)
    assert log_loss(histogram) == pytest.approx(oracle_log_loss(truth, p))
    assert brier_score(histogram) == pytest.approx(brier_score_loss(truth, p))
    expected = binary_calibration_error(torch.tensor(p), torch.tensor(truth), n_bins=NUM_BINS)
    assert calibration_error(histogram) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(("logit", "lesion"), [(1.5, 5), (1.5, 8), (-2.0, 9), (16.0, 10)])
def test_error_is_the_distance_of_probability_and_share(logit: float, lesion: int) -> None:
    expected = abs(1 / (1 + np.exp(-logit)) - lesion / 10)
    assert calibration_error(at_logit(logit, 10 - lesion, lesion)) == pytest.approx(expected)


def test_bins_of_several_parts_add_up_and_are_of_equal_width() -> None:
    first, second = make_histogram(0), make_histogram(1)
    np.testing.assert_allclose(bin_pixels(first) + bin_pixels(second), bin_pixels(first + second))
    pixels, expected, _ = bin_pixels(first).T
    edges = np.linspace(0, 1, NUM_BINS + 1)
    assert ((edges[:-1] <= expected / pixels) & (expected / pixels <= edges[1:])).all()


def test_uncertain_pixels_are_chosen_by_what_was_predicted() -> None:
    histogram = np.ones((len(LOGITS), 2), dtype=np.int64)
    kept = uncertain(histogram).any(axis=1)
    # The logit of 0.95 is 2.94.
    assert LOGITS[kept].tolist() == LOGITS[np.abs(LOGITS) < 2.94].tolist()
    assert (uncertain(histogram)[kept] == 1).all()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 8.0])
def test_the_temperature_that_made_the_histogram_is_found(temperature: float) -> None:
    histogram = make_overconfident(temperature)
    found = fit_temperature(histogram)
    assert found == pytest.approx(temperature, rel=1e-3)
    assert log_loss(histogram, found) <= log_loss(histogram)
    assert calibration_error(histogram, found) < 1e-3
    if temperature != 1:
        assert calibration_error(histogram) > 0.01


@pytest.mark.parametrize(("background", "lesion", "end"), [(-1, 1, 0), (-4, None, 0), (1, -1, 1)])
def test_where_the_likelihood_grows_without_end_an_end_of_the_range_is_taken(
    background: int, lesion: int | None, end: int
) -> None:
    histogram = at_logit(background, 10, 0)
    if lesion is not None:
        histogram += at_logit(lesion, 0, 10)
    assert TEMPERATURES[0] * 0.999 < fit_temperature(histogram) < TEMPERATURES[1] * 1.001
    assert (fit_temperature(histogram) < 0.3) == (end == 0)
    assert (fit_temperature(histogram) > 19.9) == (end == 1)


def test_without_pixels_there_is_no_score() -> None:
    nothing = np.zeros((len(LOGITS), 2), dtype=np.int64)
    for score in (calibration_error, log_loss, brier_score):
        assert np.isnan(score(nothing))
