"""The tables of a cross-validation: a row per fold, and a row per model."""

from collections.abc import Container, Iterable

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.results.cost import trainings_of
from busi_tune.results.marks import CHOSEN, MARK, chosen_models, explain_mark, mark_model
from busi_tune.results.pages.tables import (
    Table,
    format_estimate,
    format_summary,
    write_csv,
    write_page,
)
from busi_tune.results.read import KfoldRun
from busi_tune.results.repeats import average_repeats
from busi_tune.statistics.intervals import NUM_RESAMPLES, summarise, wilson

SCORES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
}
SURFACE_SCORES = {"nsd": "NSD", "hd95": "HD95 (px)"}
"""Runs from before they were measured lack them."""
STATISTICS = ("mean", "sd", "low", "high")
COST = {
    "num_trainings": "Trainings",
    "epochs": "Epochs",
    "best_epoch": "Best epoch",
    "seconds": "Seconds",
    "num_parameters": "Parameters",
    "num_workers": "Workers",
}
IN_ALL = {"num_trials": "Trials", "hours": "Hours in all"}
WHOLE = ("num_parameters", "num_workers")

EMPTY_RULE = (
    "An empty prediction for an image without lesion scores 1; an empty mask against one that is "
    "not scores 0."
)
BOOTSTRAP = (
    "Mean ± standard deviation over images and, in brackets, the 95 % percentile interval of the "
    f"mean over {NUM_RESAMPLES:,} bootstrap resamples of whole groups."
)


def write_kfold_tables(run: KfoldRun) -> pd.DataFrame:
    """Write the tables of folds and models as CSV and pages; return the table of models."""
    models = models_table(run)
    _write_folds(run, models)
    _write_models(run, models)
    return models


def models_table(run: KfoldRun) -> pd.DataFrame:
    """Summarise every model over the test images of its trainings.

    Returns:
        Three rows per model, for its tumour images, all images and normal ones (those with an
        empty mask), with mean, sd and interval of each score; for normal images of `false_lesion`,
        whether a lesion was predicted. An image counts once, averaged over its repeats. Cost is
        per training of a fold, the mean where trainings differ; `num_trials` and `hours` are over
        all folds, with the trials of nested searches.
    """
    rows = []
    scores = list(measured_scores(run))
    for model in run.models:
        images = run.images[run.images["model"] == model]
        images = images.assign(false_lesion=images["fp"] > 0)
        images = average_repeats(images, [*scores, "false_lesion"])
        cost = _cost(run, model)
        for name, summaries in (
            ("tumour", summarise_scores(images[images["has_lesion"]], scores)),
            ("all", summarise_scores(images, scores)),
            ("normal", summarise_false_lesions(images[~images["has_lesion"]])),
        ):
            rows.append({"model": model, "images": name, **summaries, **cost})
    order = ["model", "images", "num_images"]
    order += [f"{score}_{part}" for score in [*scores, "false_lesion"] for part in STATISTICS]
    columns = [*order, *COST, *IN_ALL, "num_converged", "chosen_here"]
    return pd.DataFrame(rows).reindex(columns=columns).astype(dict.fromkeys(WHOLE, "Int64"))


def measured_scores(run: KfoldRun) -> dict[str, str]:
    """The scores that the run has, with their headings."""
    surface = {name: label for name, label in SURFACE_SCORES.items() if name in run.images}
    return SCORES | surface


def summarise_scores(images: pd.DataFrame, scores: list[str]) -> dict[str, float]:
    """Summarise scores over images: `num_images`, and `STATISTICS` of each score.

    Args:
        images: a row per image, averaged over its repeats.
        scores: columns.
    """
    row: dict[str, float] = {"num_images": len(images)}
    summaries = summarise(images[scores].to_numpy(dtype=np.float64), images["group"])
    for score, summary in zip(scores, summaries, strict=True):
        row |= {f"{score}_{part}": getattr(summary, part) for part in STATISTICS}
    return row


def summarise_false_lesions(images: pd.DataFrame) -> dict[str, float]:
    """Summarise the share of images with a false lesion, with Wilson's interval.

    Args:
        images: a row per normal image, `false_lesion` averaged over its repeats.
    """
    row = summarise_scores(images, ["false_lesion"])
    low, high = wilson(images["false_lesion"].sum(), len(images))
    return row | {"false_lesion_low": low, "false_lesion_high": high}


def _cost(run: KfoldRun, model: str) -> dict[str, object]:
    folds, trainings = run.folds[run.folds["model"] == model], trainings_of(run, model)
    return {
        "num_trainings": len(folds),
        **{name: folds[name].astype(float).mean() for name in ("epochs", "best_epoch", "seconds")},
        **{name: folds[name].iloc[0] for name in WHOLE},
        "num_trials": len(trainings) - len(folds),
        "hours": trainings["seconds"].sum(min_count=1) / 3600,
        # Of a model trained elsewhere none of this is known.
        "num_converged": len(folds) - int((~folds["converged"].fillna(True)).sum()),
        "chosen_here": bool(folds["chosen_here"].any()),
    }


def _write_folds(run: KfoldRun, models: pd.DataFrame) -> None:
    measured = {"num_test": "n", "dice_tumour": "Dice, tumour images", **SCORES}
    cost = {name: label for name, label in COST.items() if name != "num_trainings"}
    identity = {"model": "Model", "repeat": "Repeat", "fold": "Fold"}
    labels = identity | measured | cost | {"converged": "Converged", "status": "Status"}
    order = {model: position for position, model in enumerate(run.models)}
    table = run.folds[list(labels)].sort_values(
        ["model", "repeat", "fold"],
        key=lambda column: column.map(order) if column.name == "model" else column,
    )
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "folds.csv", table)
    chosen = chosen_models(run)
    together = pd.DataFrame(
        {
            "Model": mark_model(row["model"], chosen),
            "Images": row["images"],
            "n": row["num_images"],
            "Dice": _summary(row, "dice"),
        }
        for row in _records(models[models["images"] != "normal"])
    )
    sections = [
        Table(
            f"Means over the n test images of a training each. {describe_protocol(run)}",
            table.assign(model=[mark_model(model, chosen) for model in table["model"]]).rename(
                columns=labels
            ),
            tuple(measured.values())[1:],
            keys=len(identity),
        ),
        Table(f"All folds together. {BOOTSTRAP} {describe_protocol(run)}", together),
    ]
    write_page(folder, "folds", "Folds", sections)


def _write_models(run: KfoldRun, models: pd.DataFrame) -> None:
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "models.csv", models)
    by_images = {name: list(_records(part)) for name, part in models.groupby("images")}
    protocol = f"{describe_protocol(run)} {describe_grouping(run)}"
    chosen = chosen_models(run)
    sections: list[str | Table] = []
    for name, title in (("tumour", "Tumour images"), ("all", "All images")):
        rows = [
            {"Model": mark_model(row["model"], chosen), "n": row["num_images"]}
            | {label: _summary(row, score) for score, label in measured_scores(run).items()}
            for row in by_images.get(name, [])
        ]
        number = max((row["n"] for row in rows), default=0)
        caption = f"{title}, n = {number}. {BOOTSTRAP} {protocol}{_surface_definition(run)}"
        sections.append(Table(caption, pd.DataFrame(rows)))
    sections += [
        Table(
            "Normal images: share of the images without lesion in which at least one pixel was "
            "predicted as lesion, with Wilson's 95 % interval, which takes images as independent; "
            f"each is averaged over its repeats. {protocol}",
            false_lesion_rows(by_images.get("normal", []), chosen),
        ),
        Table(
            "Cost per training of a fold, whatever images are scored; the mean where trainings "
            "differ. Trials: trainings of the searches inside the folds. Hours: of all trainings "
            "and trials whose time is known. Not converged: the best epoch was among the last "
            "fifth, at least the last two, so that the validation curve may still have been "
            f"rising.{explain_mark(run)}",
            _cost_table(by_images.get("all", []), chosen),
        ),
    ]
    write_page(folder, "models", "Models", sections)


def _surface_definition(run: KfoldRun) -> str:
    if not any(name in run.images for name in SURFACE_SCORES):
        return ""
    # It loads scipy's trees, which other readers of this module do without.
    from busi_tune.evaluation.surface import DEFINITION

    return f" {DEFINITION}"


def false_lesion_rows(rows: Iterable[pd.Series], chosen: Container[str]) -> pd.DataFrame:
    """Show the share of normal images with a false lesion, a row per model.

    Args:
        rows: of `summarise_false_lesions`, with the model.
        chosen: the models chosen on these images.
    """
    return pd.DataFrame(
        {
            "Model": mark_model(row["model"], chosen),
            "n": row["num_images"],
            "With a false lesion": format_estimate(row, "false_lesion"),
        }
        for row in rows
    )


def _cost_table(rows: list[pd.Series], chosen: Container[str]) -> pd.DataFrame:
    table = pd.DataFrame(
        {"Model": mark_model(row["model"], chosen)}
        | {label: row[name] for name, label in (COST | IN_ALL).items()}
        | {"Note": describe_note(row)}
        for row in rows
    )
    return table.astype({COST[name]: "Int64" for name in WHOLE} if rows else {})


def describe_protocol(run: KfoldRun) -> str:
    """Say how pixels were counted, what an empty mask scores, and what a mark at a name means."""
    thresholds = sorted({run.setting(model, "training.threshold") for model in run.models} - {None})
    listed = " or ".join(f"{threshold:g}" for threshold in thresholds) or "not known"
    source = "" if run.config.data.root else "Synthetic images. "
    return (
        f"{source}Counted in original pixels, threshold {listed}. {EMPTY_RULE}{explain_mark(run)}"
    )


def describe_grouping(run: KfoldRun) -> str:
    """Say which images the splits keep together."""
    if run.config.data.groups == "none":
        return "Splits are drawn over single images: near-duplicates may lie on both sides."
    if run.config.data.groups == "auto":
        return "Splits keep groups of near-duplicates together, found by their content."
    return f"Splits keep the groups of {run.config.data.groups} together."


def describe_note(row: pd.Series) -> str:
    """Say what must be known before the figures are taken for more than they are."""
    open_ends = row["num_trainings"] - row["num_converged"]
    notes = [f"not converged in {open_ends} of {row['num_trainings']}"] if open_ends else []
    notes += [f"{MARK} {CHOSEN}"] if row["chosen_here"] else []
    return "; ".join(notes)


def _summary(row: pd.Series, score: str) -> str:
    decimals = 1 if score == "hd95" else 3
    return format_summary(*(row[f"{score}_{part}"] for part in STATISTICS), decimals=decimals)


def _records(table: pd.DataFrame) -> Iterable[pd.Series]:
    return (row for _, row in table.iterrows())
