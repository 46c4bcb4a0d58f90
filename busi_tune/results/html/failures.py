"""What did not end well, and why."""

import pandas as pd

from busi_tune import run_directory
from busi_tune.results.read import KfoldRun, SearchRun, read_table

Failures = list[dict[str, str]]


def list_failures(run: KfoldRun | SearchRun) -> Failures:
    """Return training and reason of every training that left no result."""
    if isinstance(run, KfoldRun):
        return _failed_folds(run)
    refits = read_table(run.folder / run_directory.REFITS, ["status", "model", "refit", "reason"])
    failed = run.trials[run.trials["state"] == "FAIL"]
    named = [f"trial {trial}" for trial in failed["trial"]]
    again = refits[refits["status"] == "failed"]
    named += [f"{row['model']} again, seed {row['refit'] + 1}" for _, row in again.iterrows()]
    reasons = pd.concat([failed["reason"], again["reason"]])
    return [
        {"training": training, "reason": str(reason)}
        for training, reason in zip(named, reasons, strict=True)
    ]


def _failed_folds(run: KfoldRun) -> Failures:
    columns = ["model", "repeat", "fold", "reason"]
    folds = read_table(run.folder / run_directory.FAILURES, columns)
    nested = read_table(run.folder / run_directory.NESTED_TRIALS, ["trial", "state", *columns])
    nested = nested[nested["state"] == "FAIL"]
    nested = nested.assign(model="trial " + nested["trial"].astype(str) + " of the nested search")
    return [
        {"training": f"{row['model']}, repeat {row['repeat']}, fold {row['fold']}"}
        | {"reason": str(row["reason"])}
        for table in (folds, nested)
        for _, row in table.iterrows()
    ]
