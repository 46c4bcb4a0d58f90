"""Every pair of models on the same images: how they differ, and what may be claimed."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.results.cost import measure_budget
from busi_tune.results.marks import CHOSEN, MARK, chosen_models, explain_mark, mark_model
from busi_tune.results.pages.conclusions import (
    CAVEAT,
    CLAIM,
    RULE,
    UNDECIDED,
    UNTESTED,
    conclude,
    describe_leaders,
)
from busi_tune.results.pages.kfold_tables import describe_grouping, describe_protocol
from busi_tune.results.pages.tables import Table, format_interval, format_p, write_csv, write_page
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.intervals import summarise
from busi_tune.statistics.paired import (
    corrected_t,
    holm,
    holm_levels,
    is_superior,
    rank_biserial,
    signed_rank_p,
    superiority,
)
from busi_tune.statistics.power import detectable_difference, repeats_needed

COLUMNS = (
    "first", "second", "num_images", "num_groups", "num_trainings", "difference", "low", "high",
    "wilcoxon_p", "wilcoxon_holm", "corrected_t", "corrected_t_p", "corrected_t_holm",
    "corrected_low", "corrected_high", "superiority", "superiority_low", "superiority_high",
    "effect_size", "detectable", "repeats_needed", "verdict", "conclusion",
)  # fmt: skip
PRIMARY = "dice"
"""The score by which claims are made."""
SECONDARY = {"nsd": "NSD at 2 pixels", "hd95": "HD95 in pixels"}
SMALLER_IS_BETTER = ("hd95",)
EMPTY_SURFACES = {
    "nsd": "An empty prediction scores 0.",
    "hd95": "An empty prediction scores the image's diagonal.",
}
BRIEF = ["First", "Second", "Difference", "Wilcoxon: p", "t: p", "P(A > B)"]
TITLES = {"tumour": "Tumour images", "all": "All images"}


def pairs_table(run: KfoldRun, score: str = PRIMARY, images: str = "tumour") -> pd.DataFrame:
    """Compare every pair of models on the images and trainings that both have.

    Args:
        run: a cross-validation, or a hold-out run, which has no test over trainings.
        score: a column of images.csv.
        images: `tumour` or `all`.

    Returns:
        A row per pair with `COLUMNS`: the difference first - second over images, each once, with
        its interval over groups; tests, adjusted by Holm over the table; the corrected t test's
        interval; `superiority`, the share of trainings in which the first is better; effect size;
        the difference detectable with a power of 80 % at Holm's level; for an undecided pair the
        repeats that would settle it, where some number would; by Dice a verdict and a sentence,
        which other scores do not get.
    """
    assert images in TITLES
    chosen = run.images if images == "all" else run.images[run.images["has_lesion"]]
    ratio = run.test_over_train()
    rows = [
        {"first": first, "second": second, **_compare(chosen, first, second, score, ratio)}
        for first, second in combinations(run.models, 2)
    ]
    p_values = [row["corrected_t_p"] for row in rows]
    adjusted = holm(p_values), holm([row["wilcoxon_p"] for row in rows]), holm_levels(p_values)
    budgets = {model: measure_budget(run, model) for model in run.models}
    marked = chosen_models(run)
    for row, t_p, wilcoxon_p, level in zip(rows, *adjusted, strict=True):
        row |= {"corrected_t_holm": t_p, "wilcoxon_holm": wilcoxon_p}
        first, second = row["first"], row["second"]
        chosen_here = [model for model in (first, second) if model in marked]
        verdict = CHOSEN if chosen_here else _judge(row)
        row["verdict"] = verdict if score == PRIMARY else ""
        row |= _power(row, ratio, level)
        row["conclusion"] = ""
        if score == PRIMARY:
            row["conclusion"] = conclude(row, chosen_here, (budgets[first], budgets[second]))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"repeats_needed": "Int64"})


def _compare(
    images: pd.DataFrame, first: str, second: str, score: str, ratio: float
) -> dict[str, Any]:
    keys = ["repeat", "fold", "image"]
    ours, theirs = (images.loc[images["model"] == name] for name in (first, second))
    both = ours[[*keys, "group", score]].merge(theirs[[*keys, score]], on=keys)
    both["difference"] = both[f"{score}_x"] - both[f"{score}_y"]
    both = both.dropna(subset=["difference"])
    per_image = both.groupby("image").agg({"difference": "mean", "group": "first"})
    differences, groups = per_image["difference"].to_numpy(), per_image["group"].to_numpy()
    trainings = both.groupby(["repeat", "fold"])["difference"].mean().to_numpy()
    (paired,) = summarise(differences[:, None], groups)
    test = corrected_t(trainings, ratio)
    num_folds = both["fold"].nunique()
    better = superiority(-trainings if score in SMALLER_IS_BETTER else trainings, num_folds)
    return {
        "num_images": len(per_image),
        "num_groups": len(np.unique(groups)),
        "num_trainings": len(trainings),
        "num_folds": num_folds,
        "difference": paired.mean,
        "low": paired.low,
        "high": paired.high,
        "wilcoxon_p": signed_rank_p(differences, groups),
        "corrected_t": test.statistic,
        "corrected_t_p": test.p,
        "corrected_low": test.low,
        "corrected_high": test.high,
        "mean_over_trainings": test.difference,
        "sd": test.standard_deviation,
        **dict(zip(("superiority", "superiority_low", "superiority_high"), better, strict=True)),
        "effect_size": rank_biserial(differences, groups),
    }


def _judge(row: dict[str, Any]) -> str:
    if np.isnan(row["corrected_t_holm"]):
        return UNTESTED
    ends = row["low"], row["high"]
    claimed = is_superior(*ends, row["corrected_t_holm"], row["mean_over_trainings"])
    return CLAIM if claimed else UNDECIDED


def _power(row: dict[str, Any], ratio: float, level: float) -> dict[str, Any]:
    """Return what could have been detected, and for an undecided pair the repeats it needs."""
    sd, difference = row["sd"], row["mean_over_trainings"]
    detectable = detectable_difference(sd, row["num_trainings"], ratio, level)
    repeats = None
    if row["verdict"] == UNDECIDED:
        repeats = repeats_needed(difference, sd, row["num_folds"], ratio, level)
    return {"detectable": detectable, "repeats_needed": repeats}


def write_pairs(run: KfoldRun, models: pd.DataFrame) -> pd.DataFrame | None:
    """Write the comparisons of all pairs as CSV and as a page; nothing for a single model.

    Args:
        run: a cross-validation, or a hold-out run.
        models: its table of models.

    Returns:
        What is in pairs.csv: the tables of pairs after columns `score` and `images`.
    """
    if len(run.models) < 2:
        return None
    sections: list[str | Table] = [RULE]
    tables = []
    for images in _image_sets(run):
        table = pairs_table(run, PRIMARY, images)
        tables.append(table.assign(score=PRIMARY, images=images))
        caption = f"{TITLES[images]}. {_caption(table)} {describe_protocol(run)}"
        sections.append(f"## {TITLES[images]}")
        sections.append(Table(f"{caption} {describe_grouping(run)}", _shown(run, table)))
        leaders = describe_leaders(models, images)
        sections += [leaders] if leaders else []
        sections.append("\n".join(f"- {sentence}" for sentence in table["conclusion"]))
    for score, label in SECONDARY.items():
        if score in run.images and run.images["has_lesion"].any():
            table = pairs_table(run, score)
            tables.append(table.assign(score=score, images="tumour"))
            caption = (
                f"{label}, tumour images, n = {table['num_images'].max()}; as above, without "
                f"claims. {EMPTY_SURFACES[score]}{explain_mark(run)}"
            )
            sections.append(Table(caption, _shown(run, table)[BRIEF]))
    folder = run.folder / run_directory.TABLES
    csv = pd.concat(tables)[["score", "images", *COLUMNS]]
    write_csv(folder / "pairs.csv", csv)
    write_page(folder, "pairs", "Pairs of models", sections)
    return csv


def _image_sets(run: KfoldRun) -> list[str]:
    lesions = run.images["has_lesion"]
    return [
        *(["tumour"] if lesions.any() else []),
        *(["all"] if not lesions.all() else []),
    ]


def _caption(table: pd.DataFrame) -> str:
    number, groups = table["num_images"].max(), table["num_groups"].max()
    return (
        f"Paired differences in Dice, first minus second, on n = {number} images in {groups} "
        "groups, each image averaged over its repeats, with 95 % bootstrap "
        f"intervals over groups; at most {table['num_trainings'].max()} trainings of a model. "
        "Wilcoxon: signed ranks of the groups' mean differences. Corrected t: Nadeau and Bengio, "
        "over folds and repeats, with its 95 % interval. Both p after Holm. P(A > B): share of "
        "trainings in which the first is better, with Clopper and Pearson's 95 % interval of as "
        "many pairs as folds. Effect size: matched-pairs rank-biserial correlation. Detectable: "
        f"the difference found with a power of 80 %. {CAVEAT}"
    )


def _shown(run: KfoldRun, table: pd.DataFrame) -> pd.DataFrame:
    chosen = chosen_models(run)
    either = table["first"].isin(chosen) | table["second"].isin(chosen)
    return pd.DataFrame({
        "First": [mark_model(model, chosen) for model in table["first"]],
        "Second": [mark_model(model, chosen) for model in table["second"]],
        "Difference": _intervals(table, "difference", "low", "high"),
        "Wilcoxon: p": _p_values(table["wilcoxon_holm"], either),
        "Corrected t": table["corrected_t"],
        "t: p": _p_values(table["corrected_t_holm"], either),
        "t: interval": [
            f"[{low:.3f}, {high:.3f}]" if low == low else "-"
            for low, high in zip(table["corrected_low"], table["corrected_high"], strict=True)
        ],
        "P(A > B)": _intervals(table, "superiority", "superiority_low", "superiority_high"),
        "Effect size": table["effect_size"],
        "Detectable": table["detectable"],
        "Repeats needed": table["repeats_needed"],
    })  # fmt: skip


def _intervals(table: pd.DataFrame, *columns: str) -> list[str]:
    return [format_interval(*row) for row in table[list(columns)].itertuples(index=False)]


def _p_values(column: Iterable[float], marked: Iterable[bool]) -> list[str]:
    values = zip(column, marked, strict=True)
    return [f"{format_p(p)}{MARK * chosen}" if p == p else format_p(p) for p, chosen in values]
