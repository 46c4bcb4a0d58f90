"""What the panels of predictions and of augmented images hold."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from busi_tune.data.cache import ImageSet
from busi_tune.results.figures.augmented import plot_augmented
from busi_tune.results.figures.overlays import Predictions, plot_detailed, plot_sheet
from busi_tune.results.figures.style import PREDICTION, TRUTH
from tests.results.conftest import read_kfold


@pytest.fixture
def shown(kfold_run: Path, images: ImageSet) -> Predictions:
    """What the U-Net made of the test images."""
    rows = read_kfold(kfold_run).images
    rows = rows[rows["model"] == "unet"].set_index("image")
    return Predictions(images, kfold_run / "predictions" / "unet", rows, threshold=0.5)


def outlines(axes: Axes) -> dict[tuple[float, ...], np.ndarray]:
    """The corners of each outline, by its colour."""
    return {
        to_rgb(each.get_edgecolor()[0]): np.concatenate([p.vertices for p in each.get_paths()])
        for each in axes.collections
    }


def assert_around(corners: np.ndarray, mask: np.ndarray) -> None:
    """An outline runs through the middle of its mask's border, from pixel centre to centre."""
    rows, columns = np.nonzero(mask)
    lowest, highest = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose(corners.min(axis=0), lowest)
    np.testing.assert_allclose(corners.max(axis=0), highest)


def test_a_row_is_input_probability_binary_prediction_and_truth(
    shown: Predictions, images: ImageSet
) -> None:
    index = images.labels.index("malignant")
    name = images.names[index]
    panels = plot_detailed("unet", [name], shown).axes
    titles = [axes.get_title() or axes.get_title(loc="left") for axes in panels]
    assert titles == ["Input", "Probability", "Binary", "Ground truth"]
    levels = np.asarray(Image.open(shown.folder / f"{name}.png"))
    truth = images.original_mask(index)
    assert (truth != (levels >= 128)).any(), "the prediction is not perfect"
    expected = (images.images[index], levels / 255, levels >= 128, truth)
    for axes, picture in zip(panels, expected, strict=True):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array(), float), picture)


def test_a_sheet_outlines_truth_and_prediction_each_in_its_colour(
    shown: Predictions, images: ImageSet
) -> None:
    index = images.labels.index("malignant")
    name = images.names[index]
    drawn = outlines(plot_sheet("unet", [name], shown).axes[0])
    assert_around(drawn[to_rgb(TRUTH)], images.original_mask(index))
    assert_around(
        drawn[to_rgb(PREDICTION)], np.asarray(Image.open(shown.folder / f"{name}.png")) >= 128
    )


def test_augmented_images_stand_below_their_originals_each_with_its_own_mask() -> None:
    generator = np.random.default_rng(0)
    images, changed = generator.random((2, 3, 8, 8), dtype=np.float32)
    masks, changed_masks = np.zeros((2, 3, 8, 8), np.float32)
    masks[:, 1:4, 1:6], changed_masks[:, 3:7, 2:5] = 1, 1
    figure = plot_augmented(["a", "b", "c"], (images, masks, changed, changed_masks))
    panels = np.reshape(np.array(figure.axes, dtype=object), (3, 3))
    for column in range(3):
        pictures = [axes.images[0].get_array() for axes in panels[:, column]]
        for picture, expected in zip(pictures, (images, changed, changed_masks), strict=True):
            np.testing.assert_array_equal(picture, expected[column])
        for axes, mask in zip(panels[:2, column], (masks, changed_masks), strict=True):
            assert_around(outlines(axes)[to_rgb(TRUTH)], mask[column] > 0)
