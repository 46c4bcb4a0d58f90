from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.evaluation.counts import COUNTS, METRICS, compute_metrics
from busi_tune.evaluation.evaluate import evaluate, is_lesion, quantise, threshold_level

SIZE = 16
SIZES = [(20, 31), (16, 16), (9, 40), (33, 18)]


def make_images() -> ImageSet:
    generator = np.random.default_rng(0)
    originals = [generator.random(size) < 0.4 for size in SIZES]
    originals[1][:] = False
    packed = [np.packbits(mask) for mask in originals]
    return ImageSet(
        names=tuple(f"image {index}" for index in range(len(SIZES))),
        labels=("benign", "normal", "malignant", "benign"),
        groups=tuple("abcd"),
        image_size=SIZE,
        data_hash="0",
        images=generator.integers(0, 256, (len(SIZES), SIZE, SIZE), dtype=np.uint8),
        masks=generator.integers(0, 2, (len(SIZES), SIZE, SIZE), dtype=np.uint8),
        sizes=np.array(SIZES, dtype=np.int32),
        packed_masks=np.concatenate(packed),
        offsets=np.cumsum([0, *map(len, packed)], dtype=np.int64),
    )


@dataclass
class Setting:
    images: ImageSet
    device_images: DeviceImages
    model: nn.Module


@pytest.fixture
def setting() -> Setting:
    torch.manual_seed(0)
    images = make_images()
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Dropout(0.5))
    nn.init.normal_(model[0].weight, std=2.0)
    return Setting(images, DeviceImages(images, torch.device("cpu")), model)


def run(
    setting: Setting,
    indices: Sequence[int] = (0, 1, 2, 3),
    threshold: float = 0.5,
    batch_size: int = 3,
    predictions: Path | None = None,
) -> pd.DataFrame:
    return evaluate(
        setting.model, setting.images, setting.device_images, indices,
        threshold=threshold, batch_size=batch_size, predictions=predictions,
    )  # fmt: skip


def test_table_has_a_row_per_image_in_the_order_asked(setting: Setting) -> None:
    table = run(setting, indices=[2, 0])
    resized = [f"{name}_resized" for name in COUNTS]
    assert list(table.columns) == [
        "image", "label", "group", "height", "width", *COUNTS, *METRICS, *resized
    ]  # fmt: skip
    assert list(table["image"]) == ["image 2", "image 0"]
    assert list(table["label"]) == ["malignant", "benign"]
    assert list(table["group"]) == ["c", "a"]
    assert table[["height", "width"]].to_numpy().tolist() == [[9, 40], [20, 31]]


def test_counts_cover_original_pixels_and_those_of_training_size(setting: Setting) -> None:
    table = run(setting)
    assert list(table[list(COUNTS)].sum(axis=1)) == [height * width for height, width in SIZES]
    resized = table[[f"{name}_resized" for name in COUNTS]]
    assert set(resized.sum(axis=1)) == {SIZE * SIZE}
    positives = setting.images.masks.sum(axis=(1, 2))
    assert list(table["tp_resized"] + table["fn_resized"]) == list(positives)


def test_metrics_are_those_of_the_counts(setting: Setting) -> None:
    table = run(setting)
    expected = pd.DataFrame(compute_metrics(table[list(COUNTS)].to_numpy()))
    pd.testing.assert_frame_equal(table[list(METRICS)], expected)


@pytest.mark.parametrize("threshold", [0.001, 0.3, 0.5, 0.77, 0.999])
def test_saved_maps_give_exactly_the_counts_of_the_table(
    setting: Setting, tmp_path: Path, threshold: float
) -> None:
    table = run(setting, threshold=threshold, predictions=tmp_path / "maps")
    for index, row in table.iterrows():
        with Image.open(tmp_path / "maps" / f"{row['image']}.png") as image:
            assert image.mode == "L"
            lesion = np.asarray(image) >= threshold_level(threshold)
        truth = setting.images.original_mask(index)
        assert lesion.shape == truth.shape
        assert (lesion & truth).sum() == row["tp"]
        assert (lesion & ~truth).sum() == row["fp"]


def test_result_does_not_depend_on_the_batch_size(setting: Setting) -> None:
    pd.testing.assert_frame_equal(run(setting, batch_size=1), run(setting, batch_size=32))


@pytest.mark.parametrize("training", [True, False])
def test_network_is_evaluated_in_eval_mode_and_left_as_it_came(
    setting: Setting, training: bool
) -> None:
    setting.model.train(training)
    before = {name: value.clone() for name, value in setting.model.state_dict().items()}
    first, second = run(setting), run(setting)
    pd.testing.assert_frame_equal(first, second)
    assert setting.model.training is training
    after = setting.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_grey_level_128_is_exactly_a_probability_of_a_half() -> None:
    half = torch.tensor(0.5)
    below = torch.nextafter(half, torch.tensor(0.0))
    above = torch.nextafter(half, torch.tensor(1.0))
    assert quantise(torch.stack([below, half, above])).tolist() == [127, 128, 128]
    probabilities = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(is_lesion(quantise(probabilities), 0.5), probabilities >= 0.5)


def test_black_is_never_lesion_and_white_always() -> None:
    extremes = quantise(torch.tensor([0.0, 1.0]))
    assert is_lesion(extremes, 0.0001).tolist() == [False, True]
    assert is_lesion(extremes, 0.9999).tolist() == [False, True]


def test_no_images_give_the_same_columns_and_no_rows(setting: Setting) -> None:
    table = run(setting, indices=[])
    assert len(table) == 0
    assert list(table.columns) == list(run(setting).columns)
