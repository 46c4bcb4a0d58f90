"""What did not end well, and why."""

import pandas as pd

from busi_tune import run_directory
from busi_tune.results.read import KfoldRun, SearchRun, read_table
from busi_tune.run_directory import read_json

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
    """Read what lies in the trainings' folders; those that never came to an epoch have no name."""
    columns = ["key", "model", "repeat", "fold"]
    known = run.epochs.reindex(columns=columns).drop_duplicates("key").set_index("key")
    names = {
        key: f"{row['model']}, repeat {row['repeat']}, fold {row['fold']}"
        for key, row in known.iterrows()
    }
    folders = sorted((run.folder / run_directory.TRAININGS).glob("*"))
    return [
        {"training": names.get(folder.name, folder.name)}
        | {"reason": str(read_json(folder / run_directory.FAILURE)["reason"])}
        for folder in folders
        if (folder / run_directory.FAILURE).exists()
        and not (folder / run_directory.RESULT).exists()
    ]
