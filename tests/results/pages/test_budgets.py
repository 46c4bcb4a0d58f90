from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.kfold_models import NESTED
from busi_tune.results.pages.pairs import pairs_table
from tests.results.pages.made_up_run import build_run, only_row


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"seconds": 140.0}, None),
        ({"epochs": 40}, "in a fold up to 12 and 40 epochs."),
        (
            {"seconds": 400.0},
            "in a fold as many epochs, up to 12, but 100 and 400 seconds on average, 4.0 times as "
            "long.",
        ),
        (
            {"epochs": 40, "seconds": 50.0},
            "in a fold up to 12 and 40 epochs; 100 and 50 seconds on average, 2.0 times as long.",
        ),
    ],
)
def test_other_budgets_are_said(
    tmp_path: Path, changes: dict[str, float], said: str | None
) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.7})
    for name, value in changes.items():
        run.folds.loc[run.folds["model"] == "b", name] = value
    sentence = only_row(pairs_table(run))["conclusion"]
    if said is None:
        assert "budgets" not in sentence
    else:
        assert sentence.endswith(f"Their budgets differ: {said}")


def test_the_trials_of_a_nested_search_are_of_its_budget(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, NESTED: 0.7})
    trials = [{"repeat": 0, "fold": fold, "epochs": 10.0, "seconds": 50.0} for fold in range(5)]
    unknown = {"repeat": 0, "fold": 0, "epochs": None, "seconds": None}
    path = tmp_path / run_directory.NESTED_TRIALS
    pd.DataFrame([*trials, *trials, unknown]).to_csv(path, index=False)
    sentence = only_row(pairs_table(run))["conclusion"]
    assert sentence.endswith(
        "Their budgets differ: in a fold up to 1 and 4 trainings; up to 12 and 32 epochs; "
        "100 and 200 seconds on average, 2.0 times as long."
    )
