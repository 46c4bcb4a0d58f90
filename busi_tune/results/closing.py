"""What the terminal shows at the end of a cross-validation, from its tables."""

from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.results.marks import CHOSEN, MARK, mark_model
from busi_tune.results.pages.conclusions import CAVEAT, describe_leaders, rank_models
from busi_tune.results.pages.kfold_tables import describe_note
from busi_tune.results.pages.tables import (
    MISSING,
    format_estimate,
    format_interval,
    format_p,
    format_score,
)

SCORES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD"}


def read_closing(run_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read the tables of models and of pairs; None where there is a single model."""
    folder = run_dir / run_directory.TABLES
    models = pd.read_csv(folder / "models.csv", dtype={"model": str})
    if not (folder / "pairs.csv").exists():
        return models, None
    return models, pd.read_csv(folder / "pairs.csv", dtype={"first": str, "second": str})


def closing_rows(models: pd.DataFrame, pairs: pd.DataFrame | None) -> list[dict[str, str]]:
    """Return a row per model: scores with intervals, false lesions, how far from the leader.

    Args:
        models: the table of models.
        pairs: the table of pairs; without it no differences are shown.
    """
    images = primary_images(models)
    normal = models[models["images"] == "normal"].set_index("model")["false_lesion_mean"]
    against = {} if pairs is None else _against_leader(models, pairs)
    chosen = set(models.loc[models["chosen_here"], "model"])
    rows = []
    for _, row in models[models["images"] == images].iterrows():
        scores = {
            f"{label}, {images} images": format_estimate(row, name)
            for name, label in SCORES.items()
            if f"{name}_mean" in models
        }
        rows.append({
            "model": mark_model(str(row["model"]), chosen),
            **scores,
            "false lesions": format_score(normal[row["model"]]),
            **({} if pairs is None else {"Dice to the leader": MISSING, "p (Holm)": MISSING}),
            **against.get(str(row["model"]), {}),
            "epochs": _whole(row["epochs"]),
            "seconds": _whole(row["seconds"]),
            "parameters": _whole(row["num_parameters"]),
            "note": describe_note(row),
        })  # fmt: skip
    return rows


def closing_lines(models: pd.DataFrame, pairs: pd.DataFrame | None) -> list[str]:
    """Return whether the second lies inside the leader's interval, the conclusions, a caveat.

    Of a leader that was chosen on these images nothing is concluded: the conclusions are those on
    the best model that was not, against the others that were not.
    """
    if pairs is None:
        return []
    leaders = describe_leaders(models, primary_images(models))
    leader, judged = find_leader(models), find_judged(models)
    sentences = [] if judged is None else list(judged_pairs(models, pairs, judged)["conclusion"])
    if judged != leader:
        said = f"No claim on {leader}: it was {CHOSEN}, which flatters its figures."
        if judged:
            said += f" Of the models that were not, {judged} has the highest mean Dice."
        sentences = [said, *sentences]
    return [*([leaders] if leaders else []), *sentences, CAVEAT]


def primary_images(models: pd.DataFrame) -> str:
    """The images by which models are ranked: tumour images, all of them where there are none."""
    tumour = models[models["images"] == "tumour"]
    return "tumour" if tumour["num_images"].any() else "all"


def find_leader(models: pd.DataFrame) -> str:
    """The model with the highest mean Dice."""
    return str(rank_models(models, primary_images(models))["model"].iloc[0])


def leader_pairs(models: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs by Dice of which the leader is one."""
    return _pairs_of(models, pairs, find_leader(models))


def find_judged(models: pd.DataFrame) -> str | None:
    """The best model that was not chosen on these images; None where all of them were."""
    ranking = rank_models(models, primary_images(models))
    fair = ranking.loc[~ranking["chosen_here"].astype(bool), "model"]
    return str(fair.iloc[0]) if len(fair) else None


def judged_pairs(models: pd.DataFrame, pairs: pd.DataFrame, model: str) -> pd.DataFrame:
    """A model's pairs by Dice; without the chosen models where one of those leads."""
    own = _pairs_of(models, pairs, model)
    found: pd.DataFrame = own if model == find_leader(models) else own[own["verdict"] != CHOSEN]
    return found


def _pairs_of(models: pd.DataFrame, pairs: pd.DataFrame, model: str) -> pd.DataFrame:
    shown = (pairs["score"] == "dice") & (pairs["images"] == primary_images(models))
    found: pd.DataFrame = pairs[shown & ((pairs["first"] == model) | (pairs["second"] == model))]
    return found


def _against_leader(models: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """For each other model its paired difference to the leader, mostly below 0."""
    leader = find_leader(models)
    cells = {}
    for _, pair in leader_pairs(models, pairs).iterrows():
        size = pair["difference"], pair["low"], pair["high"]
        other = pair["first"]
        if other == leader:
            size, other = (-pair["difference"], -pair["high"], -pair["low"]), pair["second"]
        written = format_p(pair["corrected_t_holm"])
        written += MARK * (pair["verdict"] == CHOSEN and written != MISSING)
        cells[other] = {"Dice to the leader": format_interval(*size), "p (Holm)": written}
    return cells


def _whole(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:,.0f}"
