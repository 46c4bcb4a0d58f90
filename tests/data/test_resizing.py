import numpy as np
import pytest
from PIL import Image

from busi_tune.data.resizing import find_box, make_square

SHAPES = [(100, 300), (300, 100), (128, 128), (37, 201), (500, 471), (1, 900)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_letterbox_is_centred_touches_the_edges_and_keeps_the_proportions(
    shape: tuple[int, int],
) -> None:
    sides = []
    for part in find_box(*shape, 64, "letterbox"):
        assert 0 <= part.start < part.stop <= 64
        assert 64 - part.stop - part.start in (0, 1)
        sides.append(part.stop - part.start)
    assert max(sides) == 64
    scale = 64 / max(shape)
    assert sides == pytest.approx([max(1, side * scale) for side in shape], abs=0.5)


def test_a_stretched_image_fills_its_square() -> None:
    assert find_box(100, 300, 64, "stretch") == (slice(0, 64), slice(0, 64))
    assert make_square(np.full((100, 300), 9, dtype=np.uint8), 64, "stretch").min() == 9


def test_borders_are_black_and_the_image_between_them_is_whole() -> None:
    square = make_square(np.full((100, 300), 9, dtype=np.uint8), 64, "letterbox")
    assert (square == 9).sum() == 21 * 64
    assert not square[[*range(21), *range(42, 64)]].any()


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_a_mask_that_was_brought_to_its_square_and_back_is_itself(
    shape: tuple[int, int], resize: str
) -> None:
    rows, columns = np.indices(shape)
    height, width = shape
    ellipse = ((rows / height - 0.6) / 0.3) ** 2 + ((columns / width - 0.4) / 0.25) ** 2 < 1
    square = make_square(ellipse.astype(np.uint8) * 255, 128, resize)
    box = Image.fromarray(square[find_box(*shape, 128, resize)])
    back = np.asarray(box.resize((width, height), Image.Resampling.BILINEAR)) > 127
    assert 2 * (back & ellipse).sum() / (back.sum() + ellipse.sum()) > 0.97
