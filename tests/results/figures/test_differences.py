from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.results.figures import differences
from busi_tune.results.figures.differences import plot_differences
from busi_tune.results.pages.conclusions import CAVEAT
from busi_tune.results.pages.pairs import pairs_table
from busi_tune.results.read import KfoldRun
from busi_tune.results.write import write_results
from tests.results.conftest import read_kfold, write_kfold_run


@pytest.fixture
def run(tmp_path: Path, images: ImageSet) -> KfoldRun:
    models = ("unet", "report_cnn", "smp_unet")
    return read_kfold(write_kfold_run(tmp_path / "run", images, models, num_folds=2))


def diamonds(figure: Figure) -> list[tuple[float, bool]]:
    """Position across and whether filled, from top to bottom."""
    (axes,) = figure.axes
    assert isinstance(axes, Axes)
    drawn = [line for line in axes.lines if line.get_marker() == "D"]
    return [
        (float(line.get_xdata()[0]), not same_color(line.get_markerfacecolor(), "white"))
        for line in reversed(drawn)
    ]


def test_every_pair_stands_at_its_difference_in_the_order_of_the_table(run: KfoldRun) -> None:
    pairs = pairs_table(run)
    figure = plot_differences(run, pairs)
    assert [place for place, _ in diamonds(figure)] == list(pairs["difference"])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[::-1] == [
        "unet \N{MINUS SIGN} report_cnn",
        "unet \N{MINUS SIGN} smp_unet\N{DAGGER}",
        "report_cnn \N{MINUS SIGN} smp_unet\N{DAGGER}",
    ]
    assert "n = 16 tumour images in 12 groups" in " ".join(figure.get_supxlabel().split())


def test_only_claims_are_filled(run: KfoldRun) -> None:
    pairs = pairs_table(run).assign(verdict=["claim", "undecided", "chosen on these images"])
    assert [filled for _, filled in diamonds(plot_differences(run, pairs))] == [True, False, False]


def test_difference_and_interval_are_printed_with_their_signs(run: KfoldRun) -> None:
    pairs = pairs_table(run).head(1).assign(difference=-0.25, low=-0.5, high=0.125)
    (text,) = (text.get_text() for text in plot_differences(run, pairs).axes[0].texts)
    assert text.replace("\N{MINUS SIGN}", "-") == "-0.250 [-0.500, +0.125]"


def test_of_all_pairs_those_by_dice_on_tumour_images_are_drawn(
    run: KfoldRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(differences, "save_figure", lambda figure, *_: saved.append(figure))
    tables = [
        pairs_table(run, "dice", images).assign(score=score, images=images)
        for score, images in (("dice", "all"), ("dice", "tumour"), ("nsd", "tumour"))
    ]
    differences.write_differences(run, pd.concat(tables))
    (figure,) = saved
    assert [place for place, _ in diamonds(figure)] == list(tables[1]["difference"])


@pytest.mark.usefixtures("blank_figures")
def test_a_single_model_has_no_differences(kfold_run: Path) -> None:
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    folds[folds["model"] == "unet"].to_csv(kfold_run / run_directory.FOLDS, index=False)
    write_results(kfold_run, None)
    written = {path.name for path in (kfold_run / run_directory.FIGURES).iterdir()}
    assert "models.png" in written and "differences.png" not in written


def test_the_caption_says_what_the_interval_over_groups_leaves_out(run: KfoldRun) -> None:
    caption = " ".join(plot_differences(run, pairs_table(run)).get_supxlabel().split())
    assert CAVEAT in caption


def test_a_pair_without_a_test_over_trainings_is_still_drawn(run: KfoldRun) -> None:
    missing = dict.fromkeys(("corrected_low", "corrected_high", "corrected_t_holm"), np.nan)
    figure = plot_differences(run, pairs_table(run).assign(**missing))
    assert len(diamonds(figure)) == 3
