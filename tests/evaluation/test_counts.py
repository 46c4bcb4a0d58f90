import sys
from subprocess import run

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torchmetrics import functional as torchmetrics

from busi_tune.evaluation.counts import METRICS, batch_averaged, compute_metrics, count_pixels

SIZE = 12


def empty() -> np.ndarray:
    return np.zeros((SIZE, SIZE), dtype=bool)


def full() -> np.ndarray:
    return np.ones((SIZE, SIZE), dtype=bool)


def one_pixel(row: int = 3, column: int = 4) -> np.ndarray:
    mask = empty()
    mask[row, column] = True
    return mask


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((SIZE, SIZE)) < 0.3


PAIRS = {
    "noise against noise": (noise(0), noise(1)),
    "full against full": (full(), full()),
    "full against noise": (full(), noise(2)),
    "noise against full": (noise(3), full()),
    "one pixel found": (one_pixel(), one_pixel()),
    "one pixel missed by one": (one_pixel(3, 4), one_pixel(3, 5)),
    "one pixel inside full": (full(), one_pixel()),
    "full against one pixel": (one_pixel(), full()),
}


def score(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    counts = count_pixels(
        torch.from_numpy(predicted)[None, None], torch.from_numpy(truth)[None, None]
    )
    return {name: values.item() for name, values in compute_metrics(counts.numpy()).items()}


@pytest.mark.parametrize("pair", PAIRS)
def test_counts_are_those_of_scikit_learn(pair: str) -> None:
    predicted, truth = PAIRS[pair]
    counts = count_pixels(
        torch.from_numpy(predicted)[None, None], torch.from_numpy(truth)[None, None]
    )
    (tn, fp), (fn, tp) = sklearn_metrics.confusion_matrix(
        truth.ravel(), predicted.ravel(), labels=[False, True]
    )
    assert counts.dtype == torch.int64
    assert counts.tolist() == [[tp, fp, fn, tn]]


@pytest.mark.parametrize("pair", PAIRS)
def test_ratios_are_those_of_scikit_learn(pair: str) -> None:
    predicted, truth = (mask.ravel() for mask in PAIRS[pair])
    own = score(*PAIRS[pair])
    options = {"zero_division": 0.0}
    assert own["pixel_f1"] == pytest.approx(sklearn_metrics.f1_score(truth, predicted, **options))
    assert own["iou"] == pytest.approx(sklearn_metrics.jaccard_score(truth, predicted, **options))
    assert own["recall"] == pytest.approx(sklearn_metrics.recall_score(truth, predicted, **options))
    assert own["precision"] == pytest.approx(
        sklearn_metrics.precision_score(truth, predicted, **options)
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_ratios_are_those_of_torchmetrics(pair: str) -> None:
    predicted, truth = (torch.from_numpy(mask).ravel().int() for mask in PAIRS[pair])
    own = score(*PAIRS[pair])
    f1 = torchmetrics.classification.binary_f1_score(predicted, truth)
    iou = torchmetrics.classification.binary_jaccard_index(predicted, truth)
    assert own["dice"] == own["pixel_f1"] == pytest.approx(f1.item(), abs=1e-6)
    assert own["iou"] == pytest.approx(iou.item(), abs=1e-6)
    if not truth.all():
        specificity = torchmetrics.classification.binary_specificity(predicted, truth)
        assert own["specificity"] == pytest.approx(specificity.item(), abs=1e-6)


def test_empty_against_empty_scores_one() -> None:
    assert score(empty(), empty()) == dict.fromkeys(METRICS, 1.0)


@pytest.mark.parametrize("lesion", [one_pixel(), full()])
def test_lesion_predicted_in_an_empty_mask_scores_zero(lesion: np.ndarray) -> None:
    own = score(lesion, empty())
    assert {own[name] for name in METRICS if name != "specificity"} == {0.0}
    assert own["specificity"] == pytest.approx(1 - lesion.mean())


@pytest.mark.parametrize("lesion", [one_pixel(), full()])
def test_lesion_missed_by_an_empty_prediction_scores_zero(lesion: np.ndarray) -> None:
    own = score(empty(), lesion)
    assert {own[name] for name in METRICS if name != "specificity"} == {0.0}


def test_specificity_of_an_image_without_background_follows_the_empty_mask_rule() -> None:
    assert score(full(), full())["specificity"] == 1.0
    assert score(noise(0), full())["specificity"] == 0.0


def test_no_images_give_no_values() -> None:
    assert {
        len(values) for values in compute_metrics(np.zeros((0, 4), dtype=np.int64)).values()
    } == {0}


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_masks_of_any_dtype_are_counted_per_image(dtype: torch.dtype) -> None:
    predicted = torch.stack([torch.from_numpy(noise(seed)) for seed in range(3)])[:, None]
    truth = torch.stack([torch.from_numpy(noise(seed + 9)) for seed in range(3)])[:, None]
    whole = count_pixels(predicted.to(dtype), truth.to(dtype))
    assert whole.shape == (3, 4)
    assert (whole.sum(dim=1) == SIZE * SIZE).all()
    for index in range(3):
        assert torch.equal(whole[index], count_pixels(predicted[[index]], truth[[index]])[0])


def test_channels_last_masks_are_counted_like_contiguous_ones() -> None:
    masks = torch.from_numpy(np.stack([noise(0), noise(1)]))[:, None]
    strided = masks.float().contiguous(memory_format=torch.channels_last)
    assert torch.equal(count_pixels(strided, strided), count_pixels(masks, masks))


def test_batch_average_pools_the_pixels_of_a_batch_before_dividing() -> None:
    counts = np.array([[10, 0, 0, 90], [1, 9, 0, 90], [0, 0, 20, 80]])
    own = batch_averaged(counts, batch_size=2)
    first = 2 * 11 / (2 * 11 + 9)
    assert own["pixel_f1"] == own["dice"] == pytest.approx((first + 0.0) / 2)
    assert own["iou"] == pytest.approx((11 / 20 + 0.0) / 2)


def test_batch_without_lesion_has_f1_zero_and_dice_one_in_the_report() -> None:
    counts = np.array([[10, 0, 0, 90], [0, 0, 0, 100]])
    own = batch_averaged(counts, batch_size=1)
    assert own == {"pixel_f1": 0.5, "iou": 1.0, "dice": 1.0}


def test_batch_average_differs_from_the_mean_over_images() -> None:
    counts = np.array([[90, 0, 0, 10], [0, 1, 9, 90]])
    assert batch_averaged(counts)["dice"] > 0.9 > compute_metrics(counts)["dice"].mean()


def test_ratios_need_no_torch() -> None:
    code = "import busi_tune.evaluation.counts, sys; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
