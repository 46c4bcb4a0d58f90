from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.evaluation.counts import COUNTS, METRICS, compute_metrics
from busi_tune.evaluation.evaluate import DICE_COLUMNS, Evaluation, evaluate
from busi_tune.evaluation.levels import is_lesion, quantise, threshold_level
from busi_tune.evaluation.operating_point import OperatingPoint, counts_at
from busi_tune.evaluation.shape import irregularity
from busi_tune.evaluation.surface import surface_scores
from tests.training.small_training import Greedy

SIZE = 16
POINT = OperatingPoint(0.3, 50)
SIZES = [(20, 31), (16, 16), (9, 40), (33, 18)]


def make_images() -> ImageSet:
    generator = np.random.default_rng(0)
    originals = [generator.random(size) < 0.4 for size in SIZES]
    originals[1][:] = False
    packed = [np.packbits(mask) for mask in originals]
    first = originals[3] & (np.arange(SIZES[3][1]) < 9)
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
        several=np.array([3]),
        packed_firsts=np.packbits(first),
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


def run_all(
    setting: Setting,
    indices: Sequence[int] = (0, 1, 2, 3),
    threshold: float = 0.5,
    batch_size: int = 3,
    point: OperatingPoint | None = POINT,
    predictions: Path | None = None,
) -> Evaluation:
    return evaluate(
        setting.model, setting.images, setting.device_images, indices,
        threshold=threshold, batch_size=batch_size, point=point, predictions=predictions,
    )  # fmt: skip


def run(setting: Setting, **options: Any) -> pd.DataFrame:
    return run_all(setting, **options).images


def read_maps(folder: Path, table: pd.DataFrame) -> list[np.ndarray]:
    maps = []
    for name in table["image"]:
        with Image.open(folder / f"{name}.png") as image:
            maps.append(np.asarray(image))
    return maps


def test_table_has_a_row_per_image_in_the_order_asked(setting: Setting) -> None:
    table = run(setting, indices=[2, 0])
    resized = [f"{name}_resized" for name in COUNTS]
    assert list(table.columns) == [
        "image", "label", "group", "height", "width", *COUNTS, *METRICS, *resized,
        "hd95", "nsd", "irregularity",
        "tp_first", "fp_first", "fn_first", "tn_first",
        "tp_tuned", "fp_tuned", "fn_tuned", "tn_tuned",
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


def test_surfaces_shapes_and_first_masks_are_of_the_saved_maps(
    setting: Setting, tmp_path: Path
) -> None:
    table = run(setting, predictions=tmp_path)
    for index, levels in enumerate(read_maps(tmp_path, table)):
        row, lesion = table.iloc[index], levels >= 128
        truth, first = setting.images.original_mask(index), setting.images.first_mask(index)
        assert row[["hd95", "nsd"]].to_dict() == surface_scores(lesion, truth)
        assert row["irregularity"] == pytest.approx(irregularity(truth), nan_ok=True)
        assert row["tp_first"] == (lesion & first).sum()
        assert row["fp_first"] == (lesion & ~first).sum()
        assert row["fn_first"] == (~lesion & first).sum()
    one_mask = table[[f"{name}_first" for name in COUNTS]].to_numpy() == table[[*COUNTS]].to_numpy()
    assert one_mask.all(axis=1).tolist() == [True, True, True, False]


def test_tuned_counts_are_those_at_the_given_operating_point(
    setting: Setting, tmp_path: Path
) -> None:
    point = OperatingPoint(0.6, 50)
    evaluation = run_all(setting, point=point, predictions=tmp_path)
    assert evaluation.point == point
    tuned = evaluation.images[[f"{name}_tuned" for name in COUNTS]].to_numpy()
    for index, levels in enumerate(read_maps(tmp_path, evaluation.images)):
        expected = counts_at(levels, setting.images.original_mask(index), point)
        assert tuned[index].tolist() == expected.tolist()


def test_without_an_operating_point_the_best_of_these_images_is_taken(setting: Setting) -> None:
    chosen = run_all(setting, point=None)
    again = run_all(setting, point=chosen.point)
    pd.testing.assert_frame_equal(chosen.images, again.images)
    tuned = chosen.images[[f"{name}_tuned" for name in COUNTS]].to_numpy()
    best = compute_metrics(tuned)["dice"].mean()
    assert best >= chosen.images["dice"].mean()
    for point in (OperatingPoint(0.05, 0), OperatingPoint(0.9, 100), OperatingPoint(0.5, 1000)):
        other = run(setting, point=point)[[f"{name}_tuned" for name in COUNTS]].to_numpy()
        assert best >= compute_metrics(other)["dice"].mean()


def test_dice_over_thresholds_is_that_of_each_threshold(setting: Setting) -> None:
    table = run_all(setting).thresholds
    assert list(table.columns) == ["image", "label", "group", *DICE_COLUMNS]
    assert list(DICE_COLUMNS)[:2] == ["dice_0.05", "dice_0.10"]
    assert len(DICE_COLUMNS) == 19
    for column in DICE_COLUMNS:
        expected = run(setting, threshold=float(column.removeprefix("dice_")))["dice"]
        assert table[column].tolist() == expected.tolist()


def test_logits_count_the_pixels_of_all_images_of_tumour_images_and_of_lesions(
    setting: Setting, tmp_path: Path
) -> None:
    evaluation = run_all(setting, predictions=tmp_path)
    table = evaluation.logits
    assert list(table.columns) == ["logit", "pixels", "pixels_tumour", "lesion_pixels"]
    areas = [height * width for height, width in SIZES]
    lesions = [setting.images.original_mask(index).sum() for index in range(len(SIZES))]
    # The second image has no lesion.
    assert table.iloc[:, 1:].sum().tolist() == [sum(areas), sum(areas) - areas[1], sum(lesions)]
    # Rounded logits say on which side of a half a pixel lies, but for those that round to it.
    lesion = sum((levels >= 128).sum() for levels in read_maps(tmp_path, evaluation.images))
    pixels = table.set_index("logit")["pixels"]
    assert pixels[pixels.index > 0].sum() <= lesion <= pixels[pixels.index >= 0].sum()
    assert pixels.gt(0).sum() > 50


def test_result_does_not_depend_on_the_batch_size(setting: Setting) -> None:
    pd.testing.assert_frame_equal(run(setting, batch_size=1), run(setting, batch_size=32))


def test_time_per_image_is_that_of_the_forward_passes(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def count_time(*_: object) -> None:
        clock[0] += 0.006

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("busi_tune.evaluation.evaluate._score", lambda *_: count_time() or {})
    setting.model.register_forward_hook(count_time)
    # Four images in batches of three and one: two passes of 6 ms.
    assert run_all(setting).milliseconds_per_image == pytest.approx(3.0)
    assert run_all(setting, indices=[]).milliseconds_per_image == 0


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


def test_every_image_counts_in_the_progress(setting: Setting) -> None:
    done: list[tuple[int, int]] = []
    evaluate(
        setting.model, setting.images, setting.device_images, [2, 0, 3],
        threshold=0.5, batch_size=2, progress=lambda *count: done.append(count),
    )  # fmt: skip
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_batch_that_does_not_fit_into_memory_is_split_to_the_same_rows(setting: Setting) -> None:
    plenty, little = Greedy(4), Greedy(1)
    little.load_state_dict(plenty.state_dict())
    expected = run(replace(setting, model=plenty), batch_size=4)
    assert run(replace(setting, model=little), batch_size=4).equals(expected)
    assert plenty.seen == [4] and little.seen == [4, 2, 1, 1, 1, 1]
