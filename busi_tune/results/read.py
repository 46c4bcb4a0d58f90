"""A run directory's files as the tables and figures use them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.flags import load_settings
from busi_tune.kfold_models import MODEL_SECTIONS, NESTED, search_settings
from busi_tune.results.gather import compute_test_means
from busi_tune.run_directory import read_json
from busi_tune.settings import FIELDS, dotted, flatten, override

# Names may look like numbers, "001" or "1e5".
_TEXT = ("model", "key", "image", "label", "group", "part", "state", "reason")

# Parts of the names of files.
_FILE_NAMES = ("model", "key", "image", "part")
_NUMBERS = ("trial", "repeat", "fold", "refit")

EXTERNAL = "external"
"""The status of trainings that were made elsewhere and read from their own results."""


@dataclass(frozen=True)
class KfoldRun:
    """A cross-validation, or a training on a hold-out split as one of a single fold."""

    folder: Path
    config: Config
    folds: pd.DataFrame
    """A row per finished training."""
    epochs: pd.DataFrame
    images: pd.DataFrame
    """A row per test image and training, with `has_lesion`: whether its mask has any pixel."""

    @property
    def models(self) -> list[str]:
        """The models with a finished training, in the order of the run."""
        return list(dict.fromkeys(self.folds["model"]))

    @property
    def trained(self) -> list[str]:
        """The models that were trained here; of others there are rows of images alone."""
        external = set(self.folds.loc[self.folds["status"] == EXTERNAL, "model"])
        return [model for model in self.models if model not in external]

    def test_over_train(self, keys: Iterable[str] | None = None) -> float:
        """Images of a test part over those of its training part, the mean of some splits.

        Args:
            keys: names of splits in splits.json; None takes all.
        """
        splits = read_json(self.folder / run_directory.SPLITS)["splits"]
        chosen = [splits[key] for key in (splits if keys is None else keys)]
        return float(np.mean([len(parts["test"]) / len(parts["train"]) for parts in chosen]))

    def setting(self, model: str, name: str) -> Any:
        """A setting, by its dotted name, as the model had it.

        None where it was searched, and of a model that was not trained by this configuration.
        """
        configured = (*self.config.kfold.models, self.config.model.architecture)
        if model == NESTED and self.config.kfold.search:
            own = search_settings(self.config)
            own |= dict.fromkeys(own["search.space"])
        elif model not in configured:
            own = {field: None for field in FIELDS if field.split(".")[0] in MODEL_SECTIONS}
        else:
            own = dotted(self.config.kfold.models.get(model, {}))
        return own.get(name, flatten(self.config)[name])


@dataclass(frozen=True)
class SearchRun:
    """A search."""

    folder: Path
    config: Config
    trials: pd.DataFrame
    """A row per trial, with `best`: its best value so far, also where it was stopped or failed."""
    epochs: pd.DataFrame

    @property
    def monitor(self) -> str:
        """The column of `epochs` that is searched for."""
        return self.config.training.monitor

    @property
    def maximises(self) -> bool:
        """Whether larger values are better."""
        return self.monitor != "val_loss"

    @property
    def settings(self) -> list[str]:
        """The searched settings: the columns of trials.csv after `reason`."""
        columns = [str(column) for column in self.trials]
        return [name for name in columns[columns.index("reason") + 1 :] if name != "best"]

    def leaders(self, number: int) -> pd.DataFrame:
        """The best complete trials, best first; of equals the earlier one."""
        complete = self.trials[self.trials["state"] == "COMPLETE"]
        ranked = complete.sort_values("value", ascending=not self.maximises, kind="stable")
        return ranked.head(number)


def read_run(run_dir: Path) -> KfoldRun | SearchRun:
    """Read the files of a run directory.

    Raises:
        ValueError: the folder holds neither a search nor trained folds, or no rows of their images.
    """
    if (run_dir / run_directory.TRIALS).exists():
        return _read_search(run_dir)
    if (run_dir / run_directory.FOLDS).exists():
        return _read_kfold(run_dir)
    raise ValueError(
        f"{run_dir} has neither {run_directory.TRIALS} nor {run_directory.FOLDS}: "
        "give the directory of a search, kfold or train run that has begun"
    )


def _read_kfold(run_dir: Path) -> KfoldRun:
    folds = read_table(run_dir / run_directory.FOLDS, ["model", "repeat", "fold"])
    epochs = read_table(run_dir / run_directory.EPOCHS, ["model", "repeat", "fold", "epoch"])
    if len(folds) and not (run_dir / run_directory.IMAGES).exists():
        raise ValueError(
            f"{run_dir} has finished trainings in {run_directory.FOLDS} but no "
            f"{run_directory.IMAGES}, from which tables and figures are made: restore it, or go on "
            f"with the run by --resume {run_dir}, which gathers it from {run_directory.TRAININGS}/"
        )
    images = read_table(run_dir / run_directory.IMAGES, ["model", "repeat", "part", "tp", "fn"])
    images = images[images["part"] == "test"]
    for path in sorted((run_dir / run_directory.EXTERNAL).glob("*.csv")):
        added = read_table(path, [])
        images = pd.concat([images, added], ignore_index=True)
        folds = _append_keeping_types(folds, _external_folds(added))
    images = images.assign(has_lesion=images["tp"] + images["fn"] > 0)
    return KfoldRun(run_dir, _read_config(run_dir), folds, epochs, images)


def _external_folds(images: pd.DataFrame) -> pd.DataFrame:
    """Make the rows of folds.csv for a model that was trained elsewhere, its cost unknown."""
    rows = []
    for (model, repeat, fold), part in images.groupby(["model", "repeat", "fold"], sort=True):
        rows.append(
            {"model": model, "repeat": repeat, "fold": fold, "chosen_here": False, "key": ""}
            | {"status": EXTERNAL, **compute_test_means(part)}
        )
    return pd.DataFrame(rows)


def _append_keeping_types(table: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Append rows that lack some columns; whole numbers and truth values stay what they are."""
    kinds = {"i": "Int64", "b": "boolean"}
    gaps = [column for column in table if column not in more and table[column].dtype.kind in kinds]
    nullable = {column: kinds[table[column].dtype.kind] for column in gaps}
    return pd.concat([table.astype(nullable), more], ignore_index=True)


def _read_search(run_dir: Path) -> SearchRun:
    config = _read_config(run_dir)
    trials = read_table(run_dir / run_directory.TRIALS, ["trial", "state", "value", "reason"])
    epochs = read_table(run_dir / run_directory.EPOCHS, ["trial", "epoch", config.training.monitor])
    run = SearchRun(run_dir, config, trials, epochs)
    # Inner folds are averaged, as in the value of a trial that has trained on all of them.
    by_training = epochs.groupby(["trial", "fold"] if "fold" in epochs else ["trial"])[run.monitor]
    best_epochs = by_training.max() if run.maximises else by_training.min()
    reached = best_epochs.groupby("trial").mean()
    best = trials["value"].fillna(trials["trial"].map(reached)).astype(np.float64)
    return SearchRun(run_dir, config, trials.assign(best=best), epochs)


def _read_config(run_dir: Path) -> Config:
    return override(Config(), load_settings(run_dir / run_directory.CONFIG))


def read_table(path: Path, expected: list[str]) -> pd.DataFrame:
    """Read a table, names as text; where nothing was trained yet it is empty with some columns.

    Raises:
        ValueError: it is no table, or what is to name a file would lead out of its folder.
    """
    try:
        columns = pd.read_csv(path, nrows=0).columns
        # Only an empty cell is missing: NA and null are names that people give.
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(_TEXT, str),
            keep_default_na=False,
            na_values={name: [""] if name in _TEXT else ["", "nan"] for name in columns},
        )
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=expected)
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}){run_directory.MEND}") from error
    _refuse_paths(path, table)
    return table


def _refuse_paths(path: Path, table: pd.DataFrame) -> None:
    """Refuse a table, perhaps of a stranger's run, whose names are paths: files are named so."""
    for column in _FILE_NAMES:
        values = table[column].dropna().unique() if column in table else ()
        for name in values:
            parts = name.split() if column == "key" else [name]
            if any("/" in part or "\0" in part or part in ("", ".", "..") for part in parts):
                raise ValueError(f"{path}: a {column} must be a name, not a path, got {name!r:.80}")
    for column in _NUMBERS:
        if column in table and len(table) and not pd.api.types.is_numeric_dtype(table[column]):
            raise ValueError(f"{path}: the column {column} must have numbers only")
