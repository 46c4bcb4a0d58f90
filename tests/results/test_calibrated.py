import logging
from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.results.calibrated import read_calibrated
from tests.results.conftest import read_kfold
from tests.results.made_up_logits import NORMAL, write_logits


def test_each_training_has_the_temperature_of_its_validation_part(kfold_run: Path) -> None:
    write_logits(kfold_run, {"report_cnn": 0.7, "unet": 2.0})
    table = pd.read_csv(kfold_run / run_directory.LOGITS)
    # The test part has no say in it.
    table.loc[table["part"] == "test", "lesion_pixels"] //= 2
    table.to_csv(kfold_run / run_directory.LOGITS, index=False)
    found = read_calibrated(read_kfold(kfold_run))
    assert [each.model for each in found] == ["unet", "unet", "report_cnn", "report_cnn"]
    assert [each.temperature for each in found] == pytest.approx([2.0, 2.1, 0.7, 0.8], rel=0.01)
    for each in found:
        assert each.test["all"].sum() - each.test["tumour"].sum() == NORMAL
        assert (each.test["all"][:, 1] == each.test["tumour"][:, 1]).all()


def test_sets_of_tumour_images_are_not_shown_twice(kfold_run: Path) -> None:
    write_logits(kfold_run, {"unet": 2.0})
    table = pd.read_csv(kfold_run / run_directory.LOGITS)
    table.assign(pixels=table["pixels_tumour"]).to_csv(
        kfold_run / run_directory.LOGITS, index=False
    )
    assert {tuple(each.test) for each in read_calibrated(read_kfold(kfold_run))} == {("tumour",)}


@pytest.mark.parametrize("models", [{}, {"unet": 2.0}])
def test_models_of_earlier_versions_are_left_out_and_the_log_says_which(
    kfold_run: Path, caplog: pytest.LogCaptureFixture, models: dict[str, float]
) -> None:
    if models:
        write_logits(kfold_run, models)
    with caplog.at_level(logging.INFO):
        found = read_calibrated(read_kfold(kfold_run))
    assert {each.model for each in found} == set(models)
    lacking = "report_cnn" if models else "unet, report_cnn"
    assert f"no calibration of {lacking}: no pixels by logit were kept" in caplog.text
