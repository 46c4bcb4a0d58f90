import math

import numpy as np
import pytest

from busi_tune.evaluation.shape import irregularity


def draw(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["...", ".#.", "..."], 0.0),
        (["####", "...."], 0.0),
        (["#...", ".#..", "..#."], 0.0),
        (["####", "####", "####"], 0.0),
        (["#..", "#..", "###"], 1 / 6),  # 5 of the triangle's 6
        (["###", "#..", "###"], 2 / 9),
        (["#...#"], 3 / 5),
        (["#.#", "...", "#.#"], 5 / 9),
    ],
    ids=["pixel", "line", "diagonal", "rectangle", "L", "U", "two in a row", "four corners"],
)
def test_irregularity_by_hand(rows: list[str], expected: float) -> None:
    mask = draw(*rows)
    assert irregularity(mask) == pytest.approx(expected, abs=1e-12)
    assert irregularity(mask.T) == pytest.approx(expected, abs=1e-12)
    assert irregularity(np.pad(mask, 5)) == pytest.approx(expected, abs=1e-12)


def test_an_empty_mask_has_no_shape() -> None:
    assert math.isnan(irregularity(np.zeros((4, 5), dtype=bool)))


def test_a_disc_is_regular_and_a_notch_shows() -> None:
    rows, columns = np.ogrid[:101, :101]
    disc = (rows - 50) ** 2 + (columns - 50) ** 2 <= 40**2
    assert irregularity(disc) == 0.0
    notched = disc & ~((rows > 50) & (abs(columns - 50) < 10))
    lost = disc.sum() - notched.sum()
    assert 0.8 * lost / disc.sum() < irregularity(notched) <= lost / disc.sum()


def test_the_hull_is_filled_as_an_independent_triangulation_says() -> None:
    from scipy.spatial import Delaunay

    mask = np.random.default_rng(0).random((25, 31)) < 0.02
    everywhere = np.argwhere(np.ones_like(mask))
    inside = Delaunay(np.argwhere(mask)).find_simplex(everywhere, tol=1e-9) >= 0
    assert irregularity(mask) == pytest.approx(1 - mask.sum() / inside.sum(), abs=1e-12)
