from pathlib import Path

import numpy as np
import pytest

from busi_tune.evaluation.calibration import bin_pixels
from busi_tune.results.calibrated import read_calibrated
from busi_tune.results.figures.reliability import plot_reliability, write_reliability
from busi_tune.results.figures.style import house_style
from tests.results.conftest import read_kfold
from tests.results.made_up_logits import write_logits


def test_curves_are_those_of_all_trainings_together_before_and_after(kfold_run: Path) -> None:
    write_logits(kfold_run, {"unet": 2.0, "report_cnn": 0.7})
    run = read_kfold(kfold_run)
    trainings = read_calibrated(run)
    before, after, *shares = plot_reliability(run, trainings).axes
    for axes, fitted in ((before, False), (after, True)):
        diagonal, *curves = axes.lines
        assert [curve.get_label() for curve in curves] == run.models
        assert diagonal.get_linestyle() == "--"
        for model, curve in zip(run.models, curves, strict=True):
            own = [each for each in trainings if each.model == model]
            bins = sum(bin_pixels(e.test["tumour"], e.temperature if fitted else 1) for e in own)
            np.testing.assert_allclose(curve.get_xdata(), bins[:, 1] / bins[:, 0])
            np.testing.assert_allclose(curve.get_ydata(), bins[:, 2] / bins[:, 0])
    gaps = [
        max(np.abs(np.subtract(*curve.get_data())).max() for curve in axes.lines[1:])
        for axes in (before, after)
    ]
    assert gaps[1] < 0.02 < gaps[0]
    for axes in shares:
        for line in axes.lines:
            assert sum(line.get_ydata()) == pytest.approx(1)


def test_the_caption_counts_trainings_and_pixels(kfold_run: Path) -> None:
    write_logits(kfold_run, {"unet": 2.0})
    run = read_kfold(kfold_run)
    caption = plot_reliability(run, read_calibrated(run)).get_supxlabel()
    assert "n = 2 trainings and 514,000 pixels" in " ".join(caption.split())


def test_the_figure_is_written_twice_alike_and_not_without_logits(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    write_reliability(run, [])
    assert not (kfold_run / "figures").exists()
    write_logits(kfold_run, {"unet": 2.0})
    with house_style():
        write_reliability(run, read_calibrated(run))
        files = [kfold_run / "figures" / f"reliability.{ending}" for ending in ("png", "svg")]
        first = [path.read_bytes() for path in files]
        write_reliability(run, read_calibrated(run))
    assert [path.read_bytes() for path in files] == first
