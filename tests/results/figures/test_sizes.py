from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.results.figures.sizes import plot_sizes, size_table
from tests.results.conftest import make_images, read_kfold, write_kfold_run


def test_area_is_the_share_of_the_image_that_the_true_mask_covers(
    kfold_run: Path, images: ImageSet
) -> None:
    table = size_table(read_kfold(kfold_run))
    for _, row in table.iterrows():
        mask = images.original_mask(images.names.index(row["image"]))
        assert row["area"] == pytest.approx(100 * mask.mean())
    assert len(table) == 2 * 16


def test_an_image_counts_once_whatever_the_number_of_repeats(kfold_run: Path) -> None:
    once = pd.read_csv(kfold_run / run_directory.IMAGES)
    again = once.assign(repeat=1, dice=0.0)
    pd.concat([once, again]).to_csv(kfold_run / run_directory.IMAGES, index=False)
    table = size_table(read_kfold(kfold_run)).set_index(["model", "image"])
    assert table.index.is_unique
    test = once[(once["part"] == "test") & (once["model"] == "unet")].set_index("image")
    for name, dice in table.loc["unet", "dice"].items():
        assert dice == pytest.approx(test["dice"][name] / 2)


def test_bins_hold_equally_many_images_ordered_by_area_and_the_same_for_all_models(
    tmp_path: Path,
) -> None:
    images = make_images(60)
    run = read_kfold(write_kfold_run(tmp_path / "run", images, ("unet", "report_cnn"), 2))
    table = size_table(run)
    for _, rows in table.groupby("model"):
        ordered = rows.sort_values("area")
        assert np.all(np.diff(ordered["bin"]) >= 0)
        assert list(rows["bin"].value_counts().sort_index()) == [14, 13, 13]
    assert (table.groupby("image")["bin"].nunique() == 1).all()


def test_every_model_has_its_panel_with_points_and_means(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    figure = plot_sizes(run)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == run.models
    for model, axes in zip(run.models, figure.axes, strict=True):
        table = size_table(run)
        dice = table.loc[table["model"] == model, "dice"]
        points, _, means = axes.lines
        assert sorted(points.get_ydata()) == sorted(dice)
        assert list(means.get_ydata()) == pytest.approx([dice.mean()])
        assert axes.get_xscale() == "log"
    assert "n = 16 tumour images" in " ".join(figure.get_supxlabel().split())
