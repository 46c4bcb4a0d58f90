from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes

from busi_tune import run_directory
from busi_tune.results.figures.thresholds import plot_thresholds, read_thresholds, write_thresholds
from busi_tune.results.read import KfoldRun
from busi_tune.settings import override
from tests.results.conftest import read_kfold

STEPS = [step / 20 for step in range(1, 20)]


@pytest.fixture
def run(kfold_run: Path) -> KfoldRun:
    """Dice falls with the threshold: 1 - t on test images, 0.9 - t on those of validation."""
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    columns = ["model", "repeat", "fold", "key", "image", "label", "group", "part"]
    start = images["part"].map({"test": 1.0, "validation": 0.9})
    # Normal images lie 0.2 lower.
    start -= 0.2 * (images["label"] == "normal")
    curves = {f"dice_{step:.2f}": start - step for step in STEPS}
    table = images[columns].assign(**curves)
    table.to_csv(kfold_run / run_directory.THRESHOLDS, index=False)
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    folds.assign(tuned_threshold=[0.3, 0.3, 0.6, 0.5]).to_csv(
        kfold_run / run_directory.FOLDS, index=False
    )
    return read_kfold(kfold_run)


def curve(axes: Axes, line: str) -> list[float]:
    """The first model's curve."""
    drawn = next(line_ for line_ in axes.lines if line_.get_linestyle() == line)
    assert list(drawn.get_xdata()) == STEPS
    return [float(value) for value in drawn.get_ydata()]


def marked(axes: Axes, marker: str) -> list[list[float]]:
    """Thresholds of a marker, of each model."""
    return [list(line.get_xdata()) for line in axes.lines if line.get_marker() == marker]


def test_curves_are_means_of_tumour_and_of_all_images(run: KfoldRun) -> None:
    tumour, everything = plot_thresholds(run, read_thresholds(run)).axes
    assert curve(tumour, "-") == pytest.approx([1 - step for step in STEPS])
    assert curve(everything, "-") == pytest.approx([1 - 0.2 / 3 - step for step in STEPS])
    assert curve(tumour, "--")[0] == pytest.approx(0.85)
    assert "n = 16" in tumour.get_title()
    assert "n = 24" in everything.get_title()


def test_models_differ_without_colour(run: KfoldRun) -> None:
    tumour, _ = plot_thresholds(run, read_thresholds(run)).axes
    for line in ("-", "--"):
        shapes = [each.get_marker() for each in tumour.lines if each.get_linestyle() == line]
        assert len(shapes) == 2 and len(set(shapes)) == 2
        assert not {"o", "D", "None"} & set(shapes)


def test_own_and_tuned_thresholds_are_marked_on_the_test_curve(run: KfoldRun) -> None:
    tumour, _ = plot_thresholds(run, read_thresholds(run)).axes
    assert marked(tumour, "o") == [[0.5], [0.5]]
    assert marked(tumour, "D") == [[0.3, 0.6], [0.3, 0.5]]


@pytest.mark.parametrize(("own", "drawn"), [(0.42, 0.4), (0.99, 0.95)])
def test_a_threshold_between_those_tried_is_marked_at_the_nearest(
    run: KfoldRun, own: float, drawn: float
) -> None:
    changed = replace(run, config=override(run.config, {"training.threshold": own}))
    figure = plot_thresholds(changed, read_thresholds(changed))
    assert marked(figure.axes[0], "o") == [[drawn], [drawn]]
    assert "the one nearest to it that was tried" in " ".join(figure.get_supxlabel().split())


def test_an_image_counts_once_whatever_the_number_of_repeats(run: KfoldRun) -> None:
    table = read_thresholds(run)
    columns = [f"dice_{step:.2f}" for step in STEPS]
    first = table[table["image"] == table.loc[table["part"] == "test", "image"].iloc[0]]
    again = first.assign(repeat=1, **{name: first[name] - 0.5 for name in columns})
    tumour, _ = plot_thresholds(run, pd.concat([table, again, again.assign(repeat=2)])).axes
    # Of 16 images one has fallen by a mean of a third.
    expected = [1 - step - 0.5 * 2 / 3 / 16 for step in STEPS]
    assert curve(tumour, "-") == pytest.approx(expected)


@pytest.mark.usefixtures("blank_figures")
def test_a_run_without_the_file_gets_no_figure(run: KfoldRun) -> None:
    (run.folder / run_directory.THRESHOLDS).unlink()
    write_thresholds(run)
    assert not (run.folder / run_directory.FIGURES).exists()
