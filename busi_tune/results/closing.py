"""What the terminal shows at the end of a cross-validation, from its tables."""

from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.results.pages.conclusions import describe_leaders
from busi_tune.results.pages.kfold_tables import describe_note
from busi_tune.results.pages.tables import MISSING, format_interval, format_score

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
    images = _primary(models)
    normal = models[models["images"] == "normal"].set_index("model")["false_lesion_mean"]
    against = {} if pairs is None else _against_leader(models, pairs)
    rows = []
    for _, row in models[models["images"] == images].iterrows():
        scores = {
            f"{label}, {images} images": _interval(row, name)
            for name, label in SCORES.items()
            if f"{name}_mean" in models
        }
        rows.append({
            "model": str(row["model"]),
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
    """Return the conclusions on the leader, and whether the second lies inside its interval."""
    if pairs is None:
        return []
    ranking = _ranking(models)
    chosen = ranking.loc[ranking["chosen_here"].astype(bool), "model"]
    leaders = describe_leaders(ranking, "dice", list(chosen))
    sentences = list(_leader_pairs(models, pairs)["conclusion"])
    return [*([leaders] if leaders else []), *sentences]


def _primary(models: pd.DataFrame) -> str:
    """The images by which models are ranked: tumour images, all of them where there are none."""
    tumour = models[models["images"] == "tumour"]
    return "tumour" if tumour["num_images"].any() else "all"


def _ranking(models: pd.DataFrame) -> pd.DataFrame:
    names = {f"dice_{part}": part for part in ("mean", "low", "high")}
    rows = models[models["images"] == _primary(models)].rename(columns=names)
    return rows.sort_values("mean", ascending=False, kind="stable")


def _leader_pairs(models: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    leader = _ranking(models)["model"].iloc[0]
    shown = (pairs["score"] == "dice") & (pairs["images"] == _primary(models))
    found: pd.DataFrame = pairs[shown & ((pairs["first"] == leader) | (pairs["second"] == leader))]
    return found


def _against_leader(models: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """For each other model its paired difference to the leader, mostly below 0."""
    leader = _ranking(models)["model"].iloc[0]
    cells = {}
    for _, pair in _leader_pairs(models, pairs).iterrows():
        size = pair["difference"], pair["low"], pair["high"]
        other = pair["first"]
        if other == leader:
            size, other = (-pair["difference"], -pair["high"], -pair["low"]), pair["second"]
        p = pair["corrected_t_holm"]
        written = "<0.001" if p < 0.001 else format_score(p)
        cells[other] = {"Dice to the leader": format_interval(*size), "p (Holm)": written}
    return cells


def _interval(row: "pd.Series[float]", score: str) -> str:
    return format_interval(*(row[f"{score}_{part}"] for part in ("mean", "low", "high")))


def _whole(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:,.0f}"
