"""What a model cost, with the trials of its searches where they were nested."""

from dataclasses import dataclass

import pandas as pd

from busi_tune import run_directory
from busi_tune.kfold_models import NESTED
from busi_tune.results.read import KfoldRun

PLACE = ["repeat", "fold"]


@dataclass(frozen=True)
class Budget:
    """What a fold of a model took; not a number where it is not known."""

    trainings: int
    """The most of a fold, trials counted."""
    epochs: float
    """The most of a fold, over its trainings."""
    seconds: float
    """Mean of the folds, over their trainings."""


def read_trials(run: KfoldRun) -> pd.DataFrame:
    """Read the trials of nested searches, with repeat, fold, epochs and seconds; mostly none."""
    path = run.folder / run_directory.NESTED_TRIALS
    columns = [*PLACE, "epochs", "seconds"]
    if NESTED not in run.models or not path.exists():
        return pd.DataFrame(columns=columns, dtype=float)
    return pd.read_csv(path).reindex(columns=columns).astype(float)


def trainings_of(run: KfoldRun, model: str) -> pd.DataFrame:
    """Return a row with `PLACE`, epochs and seconds per training of a model, trials among them."""
    own = run.folds.loc[run.folds["model"] == model]
    own = own.reindex(columns=[*PLACE, "epochs", "seconds"]).astype(float)
    trials = read_trials(run)
    return pd.concat([own, trials]) if model == NESTED and len(trials) else own


def measure_budget(run: KfoldRun, model: str) -> Budget:
    """Sum up what each fold of a model took."""
    folds = trainings_of(run, model).groupby(PLACE)
    sums = folds[["epochs", "seconds"]].sum(min_count=1)
    return Budget(int(folds.size().max()), sums["epochs"].max(), sums["seconds"].mean())
