"""A greedy ensemble of the run's models against its best single one, judged on outer folds."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.data.phases import Phases
from busi_tune.results.averages import (
    STEP,
    Library,
    choose_weights,
    judge_choices,
    open_library,
)
from busi_tune.results.marks import CHOSEN, chosen_models, mark_model
from busi_tune.results.pages.kfold_tables import describe_grouping, describe_protocol
from busi_tune.results.pages.pairs import TITLES
from busi_tune.results.pages.tables import (
    Table,
    format_interval,
    format_p,
    state_p,
    write_csv,
    write_page,
)
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.ensemble import NUM_ROUNDS, Weights
from busi_tune.statistics.intervals import summarise
from busi_tune.statistics.paired import corrected_t, is_superior


def write_ensemble(run: KfoldRun, images: ImageSet) -> None:
    """Write the comparison as CSV and as a page; nothing for fewer than two models or folds.

    Args:
        run: a cross-validation with its predictions.
        images: the images of the run.
    """
    library = open_library(run, images)
    if library is None:
        return
    with Phases() as phases:
        choices = choose_weights(library, partial(phases, "ensemble, reading"))
        judged = judge_choices(library, choices, partial(phases, "ensemble, judging"))
    table = ensemble_table(judged, run.test_over_train())
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "ensemble.csv", table)
    write_csv(folder / "ensemble_images.csv", judged)
    marked = [model for model in library.models if model in chosen_models(run)]
    sentences = [conclude(row, marked) for row in table.to_dict("records")]
    sections: list[str | Table] = [
        f"The average of {len(library.models)} models' probabilities, in which each has a weight "
        f"(Caruana et al. 2004: up to {NUM_ROUNDS} times the model is added, again or anew, that "
        "makes the mean Dice over all images best), against the best single model. For every fold "
        "both are chosen on the out-of-fold predictions of the other folds, at every "
        f"{STEP}th row and column, and judged on the fold, at every pixel: no judged image's "
        "score had a part in a choice (the networks looked at were trained on that fold too).",
        Table(_caption(run, judged), _shown(table), ("Ensemble", "Best single model")),
        "\n".join(f"- {sentence}" for sentence in sentences),
        Table(
            "What each fold is judged by, chosen on the others; shares of the average.",
            _shown_choices(library, choices, marked),
        ),
    ]
    write_page(folder, "ensemble", "Greedy ensemble", sections)


def ensemble_table(judged: pd.DataFrame, test_over_train: float) -> pd.DataFrame:
    """Compare the ensemble with the best single model.

    Returns:
        A row for tumour images, if any, and one for all: num_images, num_groups, num_folds, the
        means `ensemble` and `single`, their paired difference with its interval over groups, the
        p of the corrected t test over folds, and whether the rule of claims holds.
    """
    rows = []
    for name in TITLES:
        part = judged if name == "all" else judged[judged["has_lesion"]]
        if not len(part):
            continue
        means = summarise(part[["ensemble", "single", "difference"]], part["group"])
        ensemble, single, paired = means
        test = corrected_t(part.groupby("fold")["difference"].mean(), test_over_train)
        claimed = paired.mean > 0 and is_superior(paired.low, paired.high, test.p, test.difference)
        rows.append({
            "images": name, "num_images": len(part), "num_groups": part["group"].nunique(),
            "num_folds": part["fold"].nunique(), "ensemble": ensemble.mean, "single": single.mean,
            "difference": paired.mean, "low": paired.low, "high": paired.high,
            "corrected_t_p": test.p, "better": claimed,
        })  # fmt: skip
    return pd.DataFrame(rows)


def conclude(row: Mapping[Any, Any], marked: Sequence[str]) -> str:
    """Say what the row of a kind of images allows to say.

    Args:
        row: of the table.
        marked: models of the library that were chosen on these images.
    """
    images = TITLES[row["images"]]
    size = format_interval(row["difference"], row["low"], row["high"])
    test = (
        f"{row['num_images']} images; corrected t test over {row['num_folds']} folds, "
        f"{state_p(row['corrected_t_p'])}"
    )
    if marked:
        return (
            f"{images}: no claim on the ensemble: {' and '.join(marked)} {CHOSEN}, which flatters "
            f"whatever it is part of (difference {size})."
        )
    if row["better"]:
        return (
            f"{images}: the ensemble is better than the best single model: its Dice is higher by "
            f"{size} ({test})."
        )
    return (
        f"{images}: the ensemble is no better than the best single model, as far as these images "
        f"tell: the difference of {size} in Dice is not settled in its favour ({test})."
    )


def _caption(run: KfoldRun, judged: pd.DataFrame) -> str:
    return (
        f"Mean Dice over n = {len(judged)} test images in {judged['group'].nunique()} groups, "
        "ensemble minus best single model with its 95 % bootstrap interval over groups, and p of "
        "the corrected t test (Nadeau and Bengio) over folds. The ensemble is called better only "
        f"where both say so. First repeat. {describe_protocol(run)} {describe_grouping(run)}"
    )


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "Images": [TITLES[name] for name in table["images"]],
        "n": table["num_images"],
        "Ensemble": table["ensemble"],
        "Best single model": table["single"],
        "Difference": [
            format_interval(*row)
            for row in table[["difference", "low", "high"]].itertuples(index=False)
        ],
        "p": [format_p(p) for p in table["corrected_t_p"]],
        "Better": table["better"],
    })  # fmt: skip


def _shown_choices(
    library: Library, choices: dict[int, tuple[Weights, Weights]], marked: Sequence[str]
) -> pd.DataFrame:
    return pd.DataFrame(
        {"Fold": str(fold)}
        | {
            mark_model(model, marked): f"{weight / sum(weights):.2f}"
            for model, weight in zip(library.models, weights, strict=True)
        }
        | {"Best single model": mark_model(library.models[single.index(1)], marked)}
        for fold, (weights, single) in choices.items()
    )
