"""What is told and drawn of an image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busi_tune.prediction.outputs import (
    compute_agreement,
    count_components,
    describe_image,
    draw_overlay,
    write_image,
)


def mask(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (10, 20)) -> np.ndarray:
    drawn = np.zeros(size, dtype=bool)
    for top, bottom, left, right in boxes:
        drawn[top:bottom, left:right] = True
    return drawn


LEFT, RIGHT, WIDE, EMPTY = mask((2, 6, 0, 4)), mask((2, 6, 4, 8)), mask((2, 6, 0, 8)), mask()


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([LEFT], None),
        ([LEFT, LEFT], 1.0),
        ([EMPTY, EMPTY], 1.0),
        ([LEFT, EMPTY], 0.0),
        ([LEFT, WIDE], 2 / 3),
        ([LEFT, RIGHT, WIDE], (0 + 2 / 3 + 2 / 3) / 3),
        ([LEFT, LEFT, EMPTY], 1 / 3),
    ],
)
def test_agreement_is_the_mean_dice_of_all_pairs(
    masks: list[np.ndarray], expected: float | None
) -> None:
    assert compute_agreement(masks) == (None if expected is None else pytest.approx(expected))


def test_components_touch_at_corners_too() -> None:
    assert count_components(EMPTY) == 0
    assert count_components(mask((0, 2, 0, 2), (2, 4, 2, 4))) == 1
    assert count_components(mask((0, 2, 0, 2), (3, 5, 3, 5))) == 2


def test_a_row_has_the_area_and_warns_where_networks_disagree() -> None:
    levels = np.where(WIDE, 204, 0).astype(np.uint8)
    row = describe_image("a", levels, WIDE, [LEFT, WIDE])
    assert row == {
        "image": "a", "height": 10, "width": 20, "lesion_px": 32, "lesion_share": 0.16,
        "num_components": 1, "max_probability": 0.8, "agreement": 0.6667,
        "warning": "networks disagree",
    }  # fmt: skip
    assert describe_image("a", levels, WIDE, [WIDE, WIDE])["warning"] == ""
    alone = describe_image("a", levels, WIDE, [WIDE])
    assert (alone["agreement"], alone["warning"]) == (None, "")


ORANGE, BLUE = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)


def count(drawn: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((drawn == colour).all(axis=-1).sum())


def test_outlines_are_drawn_in_two_colours_and_leave_the_inside() -> None:
    grey = np.full((40, 60), 100, dtype=np.uint8)
    found, truth = mask((5, 20, 5, 20), size=grey.shape), mask((20, 35, 30, 50), size=grey.shape)
    drawn = draw_overlay(grey, found, truth)
    assert drawn.shape == (40, 60, 3)
    assert tuple(drawn[5, 5]) == ORANGE
    assert tuple(drawn[20, 40]) == BLUE
    assert tuple(drawn[12, 12]) == tuple(drawn[0, 0]) == (100, 100, 100)
    assert np.array_equal(draw_overlay(grey, EMPTY, None), np.repeat(grey[..., None], 3, axis=2))


def test_in_grey_the_lesion_differs_from_the_truth_by_its_dashes() -> None:
    grey = np.full((40, 60), 100, dtype=np.uint8)
    lesion = mask((5, 20, 5, 20), size=grey.shape)
    around = 2 * (15 + 15) - 4
    assert count(draw_overlay(grey, lesion, None), ORANGE) == around
    drawn = draw_overlay(grey, lesion, lesion)
    dashes = count(drawn, ORANGE)
    assert 0.4 * around < dashes < 0.7 * around
    assert count(drawn, BLUE) == around - dashes
    point = mask((7, 8, 7, 8), size=grey.shape)
    assert count(draw_overlay(grey, point, np.zeros_like(point)), ORANGE) == 1


def test_files_are_at_the_images_own_size(tmp_path: Path) -> None:
    levels = np.where(LEFT, 200, 3).astype(np.uint8)
    write_image(tmp_path, "a b (1)", levels, levels, LEFT, None)
    files = {path.parent.name: np.asarray(Image.open(path)) for path in tmp_path.rglob("*.png")}
    assert np.array_equal(files["probabilities"], levels)
    assert np.array_equal(files["masks"], LEFT * np.uint8(255))
    assert files["overlays"].shape == (10, 20, 3)
