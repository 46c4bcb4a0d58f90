from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune.evaluation.counts import COUNTS, compute_metrics
from busi_tune.results.pages.operating_point import operating_point_table, write_operating_point
from busi_tune.statistics.intervals import summarise
from tests.results.conftest import read_kfold


@pytest.fixture
def tuned_run(kfold_run: Path) -> Path:
    """A run whose operating points remove every false lesion of normal images and no other."""
    table = pd.read_csv(kfold_run / "images.csv")
    tuned = table[list(COUNTS)].copy()
    normal = tuned["tp"] + tuned["fn"] == 0
    tuned.loc[normal, "tn"] += tuned.loc[normal, "fp"]
    tuned.loc[normal, "fp"] = 0
    pd.concat([table, tuned.add_suffix("_tuned")], axis=1).to_csv(
        kfold_run / "images.csv", index=False
    )
    folds = pd.read_csv(kfold_run / "folds.csv")
    folds["tuned_threshold"] = np.where(folds["fold"] == 0, 0.35, 0.5)
    folds.assign(tuned_component_px=100).to_csv(kfold_run / "folds.csv", index=False)
    return kfold_run


def test_differences_are_paired_on_the_same_images(tuned_run: Path) -> None:
    run = read_kfold(tuned_run)
    table = {
        (row["model"], row["measure"]): row for row in operating_point_table(run).to_dict("records")
    }
    for model in run.models:
        images = run.images[run.images["model"] == model]
        false = images.loc[~images["has_lesion"], "fp"] > 0
        tuned = compute_metrics(images[[f"{name}_tuned" for name in COUNTS]].to_numpy())["dice"]
        (change,) = summarise((tuned - images["dice"]).to_numpy()[:, None], images["group"])
        row = table[model, "dice_all"]
        assert row["difference"] == pytest.approx(change.mean)
        assert (row["low"], row["high"]) == pytest.approx((change.low, change.high))
        assert row["fixed"] == pytest.approx(images["dice"].mean())
        assert table[model, "dice_tumour"]["difference"] == pytest.approx(0, abs=1e-12)
        assert table[model, "false_lesion"]["fixed"] == pytest.approx(false.mean())
        assert table[model, "false_lesion"]["tuned"] == 0
        assert (row["thresholds"], row["components_px"]) == ("0.35 to 0.5", "100")


def test_the_page_says_on_what_the_point_was_chosen(tuned_run: Path) -> None:
    write_operating_point(read_kfold(tuned_run))
    page = (tuned_run / "tables" / "operating_point.md").read_text()
    assert "No test image had a part in the choice" in page
    assert "0.35 to 0.5" in page
    assert (tuned_run / "tables" / "operating_point.tex").exists()
    assert len(pd.read_csv(tuned_run / "tables" / "operating_point.csv")) == 6


def test_runs_made_before_there_was_a_point_have_no_page(kfold_run: Path) -> None:
    write_operating_point(read_kfold(kfold_run))
    assert not (kfold_run / "tables").exists()


def test_a_model_that_lacks_the_counts_is_left_out(tuned_run: Path) -> None:
    table = pd.read_csv(tuned_run / "images.csv")
    table.loc[table["model"] == "unet", "tp_tuned"] = np.nan
    table.to_csv(tuned_run / "images.csv", index=False)
    assert set(operating_point_table(read_kfold(tuned_run))["model"]) == {"report_cnn"}
