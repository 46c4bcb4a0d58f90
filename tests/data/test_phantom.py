from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from busi_tune.data.busi import find_samples
from busi_tune.data.check import check_folder
from busi_tune.data.phantom import count_classes, write_phantom
from busi_tune.data.pixels import read_image, read_mask
from busi_tune.data.sheet import draw_sheet


def read_all(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.rglob("*.png"))}


def test_the_set_passes_the_check_without_a_warning(phantom_root: Path) -> None:
    assert check_folder(phantom_root) == []


def test_the_same_seed_gives_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_phantom(tmp_path / name, num_images=4, seed=seed)
    assert read_all(tmp_path / "a") == read_all(tmp_path / "b")
    assert read_all(tmp_path / "a") != read_all(tmp_path / "c")


@pytest.mark.parametrize("num_images", [3, 4, 24, 120, 780])
def test_classes_are_shared_as_in_busi(num_images: int) -> None:
    counts = count_classes(num_images)
    assert sum(counts.values()) == num_images
    assert min(counts.values()) >= 1
    assert counts["benign"] >= counts["malignant"] >= counts["normal"]


def test_sizes_vary_and_stay_small(phantom_root: Path) -> None:
    sizes = {read_image(sample.image_path).shape for sample in find_samples(phantom_root)}
    assert len(sizes) > 10
    assert all(100 < side <= 220 for size in sizes for side in size)


def test_some_images_have_two_lesions_in_masks_of_their_own(phantom_root: Path) -> None:
    tumours = find_samples(phantom_root, classes=["benign", "malignant"])
    num_masks = Counter(len(sample.mask_paths) for sample in tumours)
    assert num_masks[2] >= 1
    assert num_masks[1] > num_masks[2]
    two = next(sample for sample in tumours if len(sample.mask_paths) == 2)
    first, second = (read_mask([path]) for path in two.mask_paths)
    assert first.any()
    assert second.any()
    assert not (first & second).any()


def test_lesions_are_darker_than_the_tissue_around_them(phantom_root: Path) -> None:
    for sample in find_samples(phantom_root, classes=["benign", "malignant"]):
        image, mask = read_image(sample.image_path), read_mask(sample.mask_paths)
        around = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(
            mask, iterations=4
        )
        assert image[mask].mean() < image[around].mean() - 15, sample.name


def roughness(mask: np.ndarray) -> float:
    """Perimeter over that of a disc of equal area."""
    edge = mask & ~ndimage.binary_erosion(mask)
    return float(edge.sum() / (2 * np.sqrt(np.pi * mask.sum())))


def test_malignant_borders_are_rougher_than_benign_ones(phantom_root: Path) -> None:
    mean = {
        label: np.mean(
            [
                roughness(read_mask(sample.mask_paths[:1]))
                for sample in find_samples(phantom_root, classes=[label])
            ]
        )
        for label in ("benign", "malignant")
    }
    assert mean["malignant"] > 1.1 * mean["benign"]


def test_speckle_is_correlated_and_more_so_sideways_and_deeper(phantom_root: Path) -> None:
    def correlation(part: np.ndarray, axis: int) -> float:
        detail = part - ndimage.gaussian_filter(part, 4)
        one, other = np.moveaxis(detail, axis, 0)[1:], np.moveaxis(detail, axis, 0)[:-1]
        return float((one * other).mean() / detail.var())

    images = [
        read_image(sample.image_path).astype(float)
        for sample in find_samples(phantom_root, classes=["normal"])
    ]
    shallow = [image[20:60] for image in images]
    deep = [image[80:120] for image in images]
    sideways = {
        name: np.mean([correlation(part, 1) for part in parts])
        for name, parts in (("shallow", shallow), ("deep", deep))
    }
    down = np.mean([correlation(part, 0) for part in shallow])
    assert 0.2 < down < sideways["shallow"] < sideways["deep"]


def test_every_ninth_image_is_a_near_duplicate(phantom_root: Path) -> None:
    def thumbnail(number: int) -> np.ndarray:
        path = phantom_root / "benign" / f"benign ({number}).png"
        small = np.asarray(Image.open(path).resize((24, 24), Image.Resampling.BOX), dtype=float)
        return (small - small.mean()) / small.std()

    twin = (thumbnail(9) * thumbnail(8)).mean()
    strangers = [(thumbnail(9) * thumbnail(number)).mean() for number in range(1, 8)]
    assert twin > 0.8 > max(strangers)


def test_too_few_images_and_files_in_the_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 3, got 2"):
        write_phantom(tmp_path / "a", num_images=2)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious.txt").write_text("text")
    with pytest.raises(ValueError, match="new or empty folder"):
        write_phantom(tmp_path / "b")
    assert (tmp_path / "b" / "precious.txt").exists()


def test_the_contact_sheet_has_a_row_a_class_and_outlines(
    phantom_root: Path, tmp_path: Path
) -> None:
    draw_sheet(phantom_root, tmp_path / "sheet.png", columns=3)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    coloured = (sheet.max(axis=2) - sheet.min(axis=2) > 50).any(axis=1)
    rows = np.array_split(coloured, 3)
    assert [bool(row.any()) for row in rows] == [True, True, False]
