"""How much near-duplicates on both sides of a split raise a model's figures.

Two cross-validations of the same models and settings on the same images, one on naive folds, one
on folds that keep near-duplicates together:

    python -m busi_tune.kfold --config CONFIG --data.root BUSI --data.groups none --run_dir NAIVE
    python -m busi_tune.kfold --config CONFIG --data.root BUSI --run_dir GROUPED
    python experiments/inflation.py NAIVE GROUPED --out experiments/results/inflation

Each tumour image is tested once in both runs, by networks trained on other images; the difference
of its Dice is averaged over images, and its 95 % interval comes from resampling whole groups of
near-duplicates. Of images whose twin was in the naive training the difference shows what was
remembered; of the others, how much two trainings of the same settings differ anyway. The interval
is of the images: it holds the trained networks fixed. Runs whose settings differ in more than
data.groups are refused.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.kfold_models import resolve_models
from busi_tune.results.pages.audit import OWN
from busi_tune.results.pages.tables import Table, format_interval, write_csv, write_page
from busi_tune.results.read import KfoldRun, read_run
from busi_tune.results.repeats import average_repeats
from busi_tune.run_directory import read_json
from busi_tune.settings import FIELDS, differences
from busi_tune.statistics.intervals import summarise

# The groups are what is studied; where a run lies and computes decides no number, its images are
# compared by their hash, and other models and searches have no part in the table.
NOT_COMPARED = {"data.groups", "data.root", "data.cache_dir", "storage", "kfold.models"} | {
    name
    for name in FIELDS
    if name.startswith(("resources.", "search.", "kfold.search")) and "num_workers" not in name
}
PARTS = {
    "all": "all tumour images",
    "identical": "identical scan in naive training",
    "neighbour": "neighbouring frame, no identical scan",
    "none": "no twin in naive training",
}


def main() -> None:
    """Write the table of both runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "naive", metavar="NAIVE", type=Path, help="run directory of the naive folds"
    )
    parser.add_argument(
        "grouped", metavar="GROUPED", type=Path, help="run directory of the grouped folds"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    arguments = parser.parse_args()
    naive, grouped = (load_run(path) for path in (arguments.naive, arguments.grouped))
    check_same_data(naive, grouped)
    configured = resolve_models(naive.config)
    models = [model for model in naive.models if model in grouped.models and model in configured]
    check_same_settings(naive.config, grouped.config, models)
    table = inflation_table(naive, grouped, models)
    write_csv(arguments.out / "inflation.csv", table)
    shown = pd.DataFrame(
        {
            "Model": row["model"],
            "Images": PARTS[row["images"]],
            "n": row["num_images"],
            "Naive folds": row["naive"],
            "Grouped folds": row["grouped"],
            "Difference": format_interval(row["difference"], row["low"], row["high"]),
        }
        for row in table.to_dict("records")
    )
    thresholds = sorted({f"{configured[model].training.threshold:g}" for model in models})
    caption = (
        "Dice per tumour image in original pixels on naive and on grouped folds, mean over images, "
        "and the paired difference with its 95 % bootstrap interval over groups of "
        "near-duplicates, which holds the trained networks fixed. Pixels are lesion from "
        f"probability {', '.join(thresholds)}; an empty prediction of a tumour scores 0."
    )
    page = Table(caption, shown, scores=("Naive folds", "Grouped folds"), keys=2)
    write_page(arguments.out, "inflation", "Inflation by near-duplicates", [page])
    print((arguments.out / "inflation.md").read_text())


def load_run(path: Path) -> KfoldRun:
    """Read a cross-validation."""
    run = read_run(path)
    if not isinstance(run, KfoldRun):
        raise SystemExit(f"{path} is a search; give the directory of a cross-validation")
    return run


def check_same_data(naive: KfoldRun, grouped: KfoldRun) -> None:
    """Refuse runs on different images, and a run without an audit."""
    hashes = [
        read_json(run.folder / run_directory.ENVIRONMENT)["data_hash"] for run in (naive, grouped)
    ]
    if hashes[0] != hashes[1]:
        raise SystemExit("the two runs were made on different images")
    if not (naive.folder / run_directory.AUDIT).exists():
        raise SystemExit(f"{naive.folder} has no audit: resume it once, which writes it")


def check_same_settings(naive: Config, grouped: Config, models: list[str]) -> None:
    """Refuse runs of which no model is in both, or whose settings differ in more than groups."""
    if not models:
        raise SystemExit("the two runs have no model in common")
    pairs = {model: [resolve_models(run)[model] for run in (naive, grouped)] for model in models}
    found = [
        f"{model}: {line}"
        for model, pair in pairs.items()
        for line in differences(*pair, ignore=NOT_COMPARED)
    ]
    if found:
        raise SystemExit(f"the two runs must differ in data.groups alone, got {'; '.join(found)}")


def tumour_rows(run: KfoldRun, model: str) -> pd.DataFrame:
    """Return group and Dice of a model's tumour images, averaged over repeats."""
    rows = average_repeats(run.images[run.images["has_lesion"]], ["dice"])
    return rows[rows["model"] == model].set_index("image")[["group", "dice"]]


def inflation_table(naive: KfoldRun, grouped: KfoldRun, models: list[str]) -> pd.DataFrame:
    """Compare the runs image by image.

    Returns:
        A row per model and part of the tumour images: number, mean Dice in both runs, difference
        naive - grouped and the ends of its interval.
    """
    audit = pd.read_csv(naive.folder / run_directory.AUDIT, dtype=str)
    leaks = audit[audit["folds"] == OWN]
    identical = set(leaks.loc[leaks["level"] == "identical", "image"])
    neighbour = set(leaks["image"]) - identical
    rows = []
    for model in models:
        naive_rows, grouped_rows = (tumour_rows(run, model) for run in (naive, grouped))
        both = grouped_rows.assign(dice_naive=naive_rows["dice"]).dropna()
        names = both.index.to_series()
        chosen = {
            "all": names.notna(),
            "identical": names.isin(identical),
            "neighbour": names.isin(neighbour),
            "none": ~names.isin(identical | neighbour),
        }
        for part, mask in chosen.items():
            images = both[mask]
            difference = (images["dice_naive"] - images["dice"]).to_numpy(np.float64)
            (summary,) = summarise(difference[:, None], images["group"])
            rows.append(
                {
                    "model": model, "images": part, "num_images": len(images),
                    "naive": images["dice_naive"].mean(), "grouped": images["dice"].mean(),
                    "difference": summary.mean, "low": summary.low, "high": summary.high,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
