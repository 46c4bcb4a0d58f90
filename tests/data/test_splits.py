import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from busi_tune.data import splits as module
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import (
    PARTS,
    Split,
    load_splits,
    make_folds,
    make_holdout,
    read_split_key,
    redraw_validation,
    save_splits,
    split_key,
)

LABELS = ["benign"] * 56 + ["malignant"] * 27 + ["normal"] * 17
SINGLE = [str(index) for index in range(100)]
PAIRS = [str(index // 2) for index in range(100)]
MIXED = [str(index % 40) for index in range(100)]


def parts_of(split: Split) -> list[np.ndarray]:
    return [getattr(split, part) for part in PARTS]


def assert_clean(split: Split, labels: Sequence[str], groups: Sequence[str]) -> None:
    parts = parts_of(split)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert all(part.dtype == np.int64 and len(part) for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)
    owners = Counter(group for part in parts for group in {groups[index] for index in part})
    assert set(owners.values()) == {1}


def count(part: np.ndarray, labels: Sequence[str]) -> Counter[str]:
    return Counter(labels[index] for index in part)


@pytest.mark.parametrize("groups", [SINGLE, PAIRS, MIXED], ids=["single", "pairs", "mixed"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_holdout_is_eight_to_one_to_one_in_every_class(groups: list[str], seed: int) -> None:
    split = make_holdout(LABELS, groups, seed)
    assert_clean(split, LABELS, groups)
    for part in (split.validation, split.test):
        found = count(part, LABELS)
        assert 8 <= len(part) <= 12
        assert all(abs(found[label] - LABELS.count(label) / 10) <= 2 for label in set(LABELS))


def test_a_holdout_of_busi_has_as_many_images_as_the_report_says() -> None:
    labels = ["benign"] * 437 + ["malignant"] * 210 + ["normal"] * 133
    split = make_holdout(labels, [str(index) for index in range(780)], seed=0)
    assert [len(part) for part in parts_of(split)] == [624, 78, 78]
    again = redraw_validation(split, labels, [str(index) for index in range(780)], seed=1)
    assert [len(part) for part in parts_of(again)] == [624, 78, 78]


@pytest.mark.parametrize("groups", [SINGLE, PAIRS, MIXED], ids=["single", "pairs", "mixed"])
@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_folds_test_every_image_once_and_keep_the_classes(
    groups: list[str], num_folds: int
) -> None:
    splits = make_folds(LABELS, groups, num_folds, seed=3)
    assert len(splits) == num_folds
    tested = np.sort(np.concatenate([split.test for split in splits]))
    assert np.array_equal(tested, np.arange(100))
    for split in splits:
        assert_clean(split, LABELS, groups)
        found = count(split.test, LABELS)
        assert all(abs(found[label] - LABELS.count(label) / num_folds) <= 3 for label in found)
        rest = 100 - len(split.test)
        assert abs(len(split.validation) - rest / 10) <= 3
        assert set(count(split.validation, LABELS)) == set(LABELS)


def test_the_seed_decides_alone() -> None:
    def tests_of(seed: int) -> list[list[int]]:
        return [split.test.tolist() for split in make_folds(LABELS, PAIRS, 5, seed)]

    assert tests_of(1) == tests_of(1)
    assert tests_of(1) != tests_of(2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["a"] * 3 + ["b"] * 3, list("123456")),
        (["a"] * 3 + ["b"] * 40, [str(index) for index in range(43)]),
        (["a"] * 30, ["big"] * 20 + [str(index) for index in range(10)]),
        (["a"] * 6 + ["b"] * 6, list("aabbccddeeff")),
    ],
    ids=["few", "rare class", "one large group", "pairs"],
)
def test_no_part_is_empty_however_small_the_set(
    labels: list[str], groups: list[str], seed: int
) -> None:
    for split in [make_holdout(labels, groups, seed), *make_folds(labels, groups, 3, seed)]:
        assert_clean(split, labels, groups)


@pytest.mark.parametrize("num_folds", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(num_folds: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2, got {num_folds}"):
        make_folds(LABELS, SINGLE, num_folds, seed=0)


def test_more_folds_than_a_class_has_images_are_refused_with_the_largest_that_works() -> None:
    with pytest.raises(ValueError, match=r"normal has 17 images.*17 is the largest that works"):
        make_folds(LABELS, SINGLE, 18, seed=0)
    assert len(make_folds(LABELS, SINGLE, 17, seed=0)) == 17


def test_more_folds_than_a_class_has_groups_are_refused_with_the_largest_that_works() -> None:
    groups = [*SINGLE[:83], *(str(index % 4) + "n" for index in range(17))]
    with pytest.raises(ValueError, match="normal has 17 images in 4 groups; 4 is the largest"):
        make_folds(LABELS, groups, 5, seed=0)
    for split in make_folds(LABELS, groups, 4, seed=0):
        assert "normal" in count(split.test, LABELS)


@pytest.mark.parametrize(
    ("most", "remedy"), [(4, "4 is the largest that works"), (1, "split large groups or add some")]
)
def test_folds_left_without_images_are_refused_with_the_largest_that_works(
    most: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = module._draw_parts

    def draw_few(*arguments: Any) -> list[np.ndarray]:
        return draw(*arguments)[:most]

    monkeypatch.setattr(module, "_draw_parts", draw_few)
    with pytest.raises(
        ValueError, match=rf"no fold without images, got 6: the 50 groups.*{remedy}"
    ):
        make_folds(LABELS, PAIRS, 6, seed=0)


@pytest.mark.parametrize("numbers", [(0, 0), (2, 11)])
def test_the_name_of_a_fold_gives_its_numbers_back(numbers: tuple[int, int]) -> None:
    assert read_split_key(split_key(*numbers)) == numbers


@pytest.mark.parametrize("name", ["holdout", "repeat-0/fold-1/search", "repeat-x/fold-1", "0/1"])
def test_what_is_no_name_of_a_fold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"named as repeat-0/fold-0, not {name}"):
        read_split_key(name)


def test_a_class_of_one_image_must_be_left_out() -> None:
    with pytest.raises(ValueError, match="class rare has 1 images in 1 groups; leave the class"):
        make_folds([*LABELS, "rare"], [*SINGLE, "100"], 2, seed=0)


def test_a_set_too_small_for_three_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a group of images each.*got 2 images in 2 groups"):
        make_folds(["a", "a"], ["1", "2"], 2, seed=0)
    with pytest.raises(ValueError, match="a group of images each"):
        make_holdout(["a"] * 5, ["1"] * 5, seed=0)


def image_set(num_images: int = 100, data_hash: str = "a" * 64) -> ImageSet:
    nothing = np.zeros(0, dtype=np.uint8)
    return ImageSet(
        names=tuple(f"image {index}" for index in range(num_images)),
        labels=tuple(LABELS[:num_images]),
        groups=tuple(PAIRS[:num_images]),
        image_size=8,
        data_hash=data_hash,
        images=nothing,
        masks=nothing,
        sizes=nothing,
        packed_masks=nothing,
        offsets=nothing,
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    images = image_set()
    splits = {"fold": make_folds(images.labels, images.groups, 5, seed=1)[0]}
    save_splits(tmp_path / "splits.json", splits, images, seed=1)
    return tmp_path / "splits.json"


def test_a_manifest_gives_the_same_splits_back(manifest: Path) -> None:
    images = image_set()
    expected = make_folds(images.labels, images.groups, 5, seed=1)[0]
    loaded = load_splits(manifest, images)
    assert list(loaded) == ["fold"]
    for part, other in zip(parts_of(loaded["fold"]), parts_of(expected), strict=True):
        assert part.dtype == np.int64
        assert np.array_equal(part, other)


def test_a_manifest_holds_names_hash_and_seed(manifest: Path) -> None:
    content = json.loads(manifest.read_text())
    assert content["seed"] == 1
    assert content["data_hash"] == "a" * 64
    names = [name for part in PARTS for name in content["splits"]["fold"][part]]
    assert sorted(names) == sorted(image_set().names)


def test_a_manifest_follows_names_not_positions(manifest: Path) -> None:
    images = image_set()
    turned = replace(images, names=images.names[::-1])
    before, after = load_splits(manifest, images)["fold"], load_splits(manifest, turned)["fold"]
    assert np.array_equal(np.sort(99 - before.test), after.test)


@pytest.mark.parametrize(
    ("images", "difference"),
    [
        (image_set(98), "names 2 images that the data does not have: image 98, image 99"),
        (image_set(data_hash="b" * 64), "made for other data.*files have changed"),
        (
            replace(image_set(data_hash="b" * 64), names=(*image_set().names, "image 100")),
            "1 images are new: image 100",
        ),
    ],
    ids=["fewer images", "other contents", "more images"],
)
def test_a_manifest_of_other_data_is_refused_with_the_difference(
    manifest: Path, images: ImageSet, difference: str
) -> None:
    with pytest.raises(ValueError, match=difference):
        load_splits(manifest, images)


def test_overlapping_parts_are_refused(manifest: Path) -> None:
    content = json.loads(manifest.read_text())
    parts = content["splits"]["fold"]
    parts["test"].append(parts["train"][0])
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"overlap; fold has {parts['train'][0]} in test"):
        load_splits(manifest, image_set())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"data_hash": 1, "splits": {"a": {}}}'])
def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(ValueError, match=r"splits\.json is no manifest"):
        load_splits(tmp_path / "splits.json", image_set())
    with pytest.raises(ValueError, match=r"missing\.json is no manifest"):
        load_splits(tmp_path / "missing.json", image_set())
