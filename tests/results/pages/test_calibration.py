from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune.evaluation.calibration import calibration_error, log_loss, uncertain
from busi_tune.results.calibrated import read_calibrated
from busi_tune.results.pages.calibration import calibration_table, write_calibration
from busi_tune.statistics.paired import corrected_t
from tests.results.conftest import read_kfold
from tests.results.made_up_logits import write_logits


@pytest.fixture
def logits_run(kfold_run: Path) -> Path:
    write_logits(kfold_run, {"unet": 2.0, "report_cnn": 0.7})
    return kfold_run


def test_scores_are_means_over_trainings_each_with_its_temperature(logits_run: Path) -> None:
    run = read_kfold(logits_run)
    trainings = read_calibrated(run)
    table = calibration_table(run, trainings).set_index(["model", "images"])
    assert list(table.index) == [
        (model, images) for model in ("unet", "report_cnn") for images in ("tumour", "all")
    ]
    for model, images in table.index:
        row, own = table.loc[(model, images)], [each for each in trainings if each.model == model]
        before = [calibration_error(each.test[images]) for each in own]
        after = [calibration_error(each.test[images], each.temperature) for each in own]
        assert (row["ece"], row["ece_after"]) == pytest.approx((np.mean(before), np.mean(after)))
        expected = [log_loss(each.test[images], each.temperature) for each in own]
        assert row["nll_after"] == pytest.approx(np.mean(expected))
        narrow = [calibration_error(uncertain(each.test[images])) for each in own]
        assert row["ece_uncertain"] == pytest.approx(np.mean(narrow))
        change = corrected_t(np.subtract(after, before), run.test_over_train())
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(
            (change.difference, change.low, change.high)
        )
        assert row["num_trainings"] == 2


def test_a_temperature_helps_a_network_that_was_too_sure_and_one_that_was_not_sure_enough(
    logits_run: Path,
) -> None:
    run = read_kfold(logits_run)
    table = calibration_table(run, read_calibrated(run))
    tumour = table[table["images"] == "tumour"]
    for score in ("ece", "nll", "brier", "ece_uncertain"):
        assert (tumour[f"{score}_after"] < tumour[score]).all(), score
    assert (tumour["difference"] < 0).all()
    # Normal images, all black, make every error over pixels smaller.
    assert (table.loc[table["images"] == "all", "ece"].to_numpy() < tumour["ece"].to_numpy()).all()


def test_the_page_says_what_is_counted_and_where_the_temperature_comes_from(
    logits_run: Path,
) -> None:
    run = read_kfold(logits_run)
    write_calibration(run, read_calibrated(run))
    page = (logits_run / "tables" / "calibration.md").read_text()
    temperatures = [each.temperature for each in read_calibrated(run) if each.model == "unet"]
    assert f"| 2 | {temperatures[0]:.2f} to {temperatures[1]:.2f} |" in page
    assert "its own validation part" in page
    assert "no interval over pixels" in page
    assert (logits_run / "tables" / "calibration.tex").exists()
    assert len(pd.read_csv(logits_run / "tables" / "calibration.csv")) == 4


def test_a_single_training_has_no_interval(logits_run: Path) -> None:
    folds, logits = (pd.read_csv(logits_run / name) for name in ("folds.csv", "logits.csv"))
    folds[folds["fold"] == 0].to_csv(logits_run / "folds.csv", index=False)
    logits[logits["fold"] == 0].to_csv(logits_run / "logits.csv", index=False)
    run = read_kfold(logits_run)
    table = calibration_table(run, read_calibrated(run))
    assert table["low"].isna().all() and table["difference"].notna().all()
    write_calibration(run, read_calibrated(run))
    page = (logits_run / "tables" / "calibration.md").read_text()
    assert "nan" not in page
    assert f"| 1 | {read_calibrated(run)[0].temperature:.2f} |" in page


def test_runs_made_before_there_were_logits_have_no_page(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    write_calibration(run, read_calibrated(run))
    assert not (kfold_run / "tables").exists()
