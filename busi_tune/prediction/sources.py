"""Which trained networks predict: the folds of a model, a training, a winner, an export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.jobs.common import trainings_folder
from busi_tune.results.marks import CHOSEN, chosen_models
from busi_tune.results.pages.winner import choose_winner
from busi_tune.results.read import KfoldRun, SearchRun, read_run, read_table
from busi_tune.run_directory import read_json

WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Source:
    """Networks of one model and one configuration, but for their seeds and images."""

    folder: Path
    """Of the run, or of an export."""
    model: str
    weights: Mapping[str, Path]
    """Of each network by its name: a checkpoint, or a file of an export."""
    choice: str
    """Why this model, and of which others."""


def find_source(folder: Path, model: str | None = None) -> Source:
    """Find the networks of a run directory or an export.

    Args:
        folder: of a kfold, train or search run that has finished trainings, or an export.
        model: the model to take; None takes the only one or, of several, the run's leader: the
            best mean Dice on tumour images of a kfold run, the winner of a search.

    Raises:
        ValueError: there is no such run or model, or some of its networks are gone.
    """
    if not folder.is_dir():
        raise ValueError(f"--run must be a run directory or an export, got {folder}: no folder")
    exported = sorted(folder.glob(f"*{WEIGHTS}"))
    if exported and not (folder / run_directory.ENVIRONMENT).exists():
        _choose(folder, [folder.name], model, folder.name)
        return Source(folder, folder.name, {path.stem: path for path in exported}, "an export")
    run = read_run(folder)
    table, best = _kfold_networks(run) if isinstance(run, KfoldRun) else _search_networks(run)
    if table.empty:
        raise ValueError(f"{folder} has no finished training yet: go on with it by --resume")
    models = list(dict.fromkeys(table["model"]))
    chosen = _choose(folder, models, model, best)
    own = table[table["model"] == chosen]
    trainings = trainings_folder(run.config, folder)
    weights = {
        str(name): trainings / str(key) / run_directory.BEST_CHECKPOINT
        for name, key in zip(own["name"], own["key"], strict=True)
    }
    missing = [str(path) for path in weights.values() if not path.exists()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(weights)} checkpoints of {chosen} are not there, the "
            f"first {missing[0]}: restore them, or give the run that trained them"
        )
    return Source(folder, chosen, weights, _explain(chosen, models, model, run))


def _choose(folder: Path, models: list[str], wanted: str | None, best: str) -> str:
    if wanted is not None and wanted not in models:
        raise ValueError(f"--model {wanted}: {folder} has {', '.join(models)}")
    return wanted or best


def _explain(chosen: str, models: list[str], wanted: str | None, run: KfoldRun | SearchRun) -> str:
    if wanted is not None or len(models) == 1:
        return "as asked for" if wanted else "the run's only model"
    others = ", ".join(name for name in models if name != chosen)
    why = "the best mean Dice on tumour images" if isinstance(run, KfoldRun) else "the winner"
    marked = isinstance(run, KfoldRun) and chosen in chosen_models(run)
    flattered = f", {CHOSEN}, which flatters it" if marked else ""
    return f"{why} of {len(models)} models{flattered}; --model takes another: {others}"


def _kfold_networks(run: KfoldRun) -> tuple[pd.DataFrame, str]:
    """The trainings (model, name, key), and the leader."""
    folds = run.folds[run.folds["model"].isin(run.trained)]
    names = [
        f"repeat-{repeat}-fold-{fold}" if folds["repeat"].any() else f"fold-{fold}"
        for repeat, fold in zip(folds["repeat"], folds["fold"], strict=True)
    ]
    models = list(dict.fromkeys(folds["model"]))
    images = run.images[run.images["model"].isin(models)]
    if images["has_lesion"].any():
        images = images[images["has_lesion"]]
    dice = (
        images.groupby("model", sort=False)["dice"].mean() if len(images) else pd.Series(1, models)
    )
    return folds[["model", "key"]].assign(name=names), str(dice.idxmax()) if models else ""


def _search_networks(run: SearchRun) -> tuple[pd.DataFrame, str]:
    """The refits (model, name, key) and the winner, or else the best trial's trainings."""
    refits = read_table(
        run.folder / run_directory.REFITS, ["model", "trial", "refit", "best_value"]
    )
    winner = choose_winner(refits, run.maximises)
    if winner:
        finished = refits.dropna(subset=["best_value"])
        names = [f"refit-{refit}" for refit in finished["refit"]]
        return finished[["model", "key"]].assign(name=names), winner
    rows = []
    for _, trial in run.leaders(1).iterrows():
        keys = str(trial["key"]).split()
        name = f"trial {trial['trial']}"
        rows += [{"model": name, "name": f"part-{n}", "key": key} for n, key in enumerate(keys)]
    table = pd.DataFrame(rows, columns=["model", "name", "key"])
    return table, str(table["model"].iloc[0]) if rows else ""


def read_trained(folder: Path) -> set[str]:
    """Read the names of the images that some network was trained on or chosen by.

    Of a kfold run these are all of its images; each network has not seen those of its fold.
    """
    path = folder / run_directory.SPLITS
    if not path.exists():
        return set()
    splits = read_json(path)["splits"].values()
    return {name for parts in splits for name in (*parts["train"], *parts["validation"])}
