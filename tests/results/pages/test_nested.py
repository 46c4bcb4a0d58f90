"""The nested estimate on a worked example of two folds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.kfold_models import NESTED
from busi_tune.results.pages.nested import (
    Estimate,
    estimate_optimism,
    winners_table,
    write_nested,
)
from busi_tune.results.read import KfoldRun
from busi_tune.settings import override, to_yaml
from tests.results.conftest import read_kfold

SEARCH = {"search.space": {"optimizer.lr": [0.1, 0.2], "model.architecture": ["unet"]}}
# tp, fp, fn at training size: Dice 1, 0.5 and, both empty, 1; then 0, 0.8 and 0.
RESIZED = [[(10, 0, 0), (5, 5, 5), (0, 0, 0)], [(0, 3, 3), (8, 2, 2), (0, 1, 0)]]
OUTER, OUTER_TUMOUR = [2.5 / 3, 0.8 / 3], [1.5 / 2, 0.8 / 2]
INNER = [0.9, 0.5]


def write_run(folder: Path, monitor: str = "val_dice") -> KfoldRun:
    """Write what a run of two folds leaves; in original pixels every Dice is 0.25."""
    folder.mkdir()
    search = SEARCH | {"training.monitor": monitor}
    config = override(Config(), {"kfold.num_folds": 2, "kfold.search": search})
    (folder / run_directory.CONFIG).write_text(to_yaml(config))
    names = [[f"{fold}{number}" for number in range(3)] for fold in (0, 1)]
    splits = {
        f"repeat-0/fold-{fold}": {
            "train": names[1 - fold][:2], "validation": names[1 - fold][2:], "test": names[fold],
        }
        for fold in (0, 1)
    }  # fmt: skip
    (folder / run_directory.SPLITS).write_text(json.dumps({"data_hash": "0", "splits": splits}))
    identity = [{"model": NESTED, "repeat": 0, "fold": fold, "key": f"{fold}e1"} for fold in (0, 1)]
    pd.DataFrame(identity).to_csv(folder / run_directory.FOLDS, index=False)
    pd.DataFrame(identity).assign(epoch=1).to_csv(folder / run_directory.EPOCHS, index=False)
    rows = [
        {**identity[fold], "image": name, "part": "test", "tp": 1, "fp": 3, "fn": 3, "tn": 9}
        | dict(zip(("tp_resized", "fp_resized", "fn_resized"), counts, strict=True))
        | {"tn_resized": 20}
        for fold in (0, 1)
        for name, counts in zip(names[fold], RESIZED[fold], strict=True)
    ]
    pd.DataFrame(rows).to_csv(folder / run_directory.IMAGES, index=False)
    trials = [
        {"repeat": 0, "fold": fold, "trial": trial, "chosen": trial == fold, "key": f"{trial}e",
         "state": "COMPLETE" if trial == fold else "PRUNED",
         "value": INNER[fold] if trial == fold else None, "reason": "",
         "optimizer.lr": 0.1 + trial / 10}
        for fold in (0, 1)
        for trial in (0, 1)
    ]  # fmt: skip
    pd.DataFrame(trials).to_csv(folder / run_directory.NESTED_TRIALS, index=False)
    run = read_kfold(folder)
    return run


@pytest.mark.parametrize(
    ("monitor", "outer", "num_test"),
    [("val_dice", OUTER, [3, 3]), ("val_dice_tumour", OUTER_TUMOUR, [2, 2])],
)
def test_the_outer_value_is_the_searched_one_on_the_test_fold(
    tmp_path: Path, monitor: str, outer: list[float], num_test: list[int]
) -> None:
    table = winners_table(write_run(tmp_path / "run", monitor))
    assert table["outer"].tolist() == pytest.approx(outer)
    assert table["num_test"].tolist() == num_test
    assert table["inner"].tolist() == INNER
    assert table["optimism"].tolist() == pytest.approx(np.subtract(INNER, outer))
    assert table[["fold", "trial", "num_trials", "key"]].to_numpy().tolist() == [
        [0, 0, 2, "0e1"],
        [1, 1, 2, "1e1"],
    ]
    assert table["optimizer.lr"].tolist() == pytest.approx([0.1, 0.2])


def test_the_optimism_has_the_interval_of_overlapping_training_sets(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    estimate = estimate_optimism(run, winners_table(run))
    differences = np.subtract(INNER, OUTER)
    assert estimate.plain == pytest.approx(0.7)
    assert estimate.nested == pytest.approx(1.1 / 2)
    assert estimate.optimism == pytest.approx(0.15)
    error = differences.std(ddof=1) * np.sqrt(1 / 2 + 3 / 2)
    expected = stats.t.interval(0.95, df=1, loc=0.15, scale=error)
    assert (estimate.low, estimate.high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.09, "above those on the outer folds, by +0.050 [+0.010, +0.090]"),
        (-0.02, 0.12, "contains 0: 5 folds do not tell"),
        (-0.09, -0.01, "did better on the outer folds"),
        (np.nan, np.nan, "One fold has no interval"),
    ],
)
def test_the_conclusion_claims_what_the_interval_carries(
    low: float, high: float, words: str
) -> None:
    middle = 0.05 if np.isnan(low) else (low + high) / 2
    conclusion = Estimate("val_dice", 5, 0.75, 0.7, middle, low, high, 100).conclusion
    assert words in conclusion
    assert " is too high" not in conclusion.replace("whether the search's own value is", "")
    assert ("as far as this approximate interval tells" in conclusion) == (low > 0)


def test_the_page_and_its_tables_come_from_files_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_nested(run)
    folder = run.folder / run_directory.TABLES
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(written) == {"nested.csv", "nested.md", "nested.tex", "nested_estimate.csv"}
    page = (folder / "nested.md").read_text()
    assert "| Plain | 0.700 |" in page and "| Nested | 0.550 |" in page
    assert "training size" in page and "scores 1" in page
    caption = next(line for line in page.splitlines() if line.startswith("**Table 2.**"))
    for said in ("n = 6 tests", "approximate", "few validation images", "scores 1"):
        assert said in caption
    assert "left out" not in page
    estimate = pd.read_csv(folder / "nested_estimate.csv").iloc[0]
    assert estimate["conclusion"] in page
    write_nested(run)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written


def test_folds_without_a_tested_winner_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run = replace(run, images=run.images[run.images["fold"] == 0])
    write_nested(run)
    page = (run.folder / run_directory.TABLES / "nested.md").read_text()
    assert "1 of the folds have no tested winner" in page
    assert "One fold has no interval" in page


def test_a_run_without_nested_searches_has_no_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.folds["model"] = "unet"
    write_nested(run)
    assert not (run.folder / run_directory.TABLES).exists()


def test_a_searched_setting_has_no_single_value(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", monitor="val_dice_tumour")
    assert run.setting(NESTED, "optimizer.lr") is None
    assert run.setting(NESTED, "training.monitor") == "val_dice_tumour"
