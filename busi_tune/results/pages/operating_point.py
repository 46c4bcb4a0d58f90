"""Each model at the threshold of the tables, and at the operating point of its validation parts."""

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.counts import COUNTS, compute_metrics
from busi_tune.evaluation.operating_point import COMPONENTS_PX, THRESHOLDS
from busi_tune.results.marks import chosen_models, mark_model
from busi_tune.results.pages.kfold_tables import describe_protocol
from busi_tune.results.pages.tables import Table, format_interval, write_csv, write_page
from busi_tune.results.read import KfoldRun
from busi_tune.results.repeats import average_repeats
from busi_tune.statistics.intervals import summarise

TUNED = [f"{name}_tuned" for name in COUNTS]
MEASURES = {
    "dice_tumour": "Dice, tumour images",
    "dice_all": "Dice, all images",
    "false_lesion": "Normal images with a false lesion",
}


def write_operating_point(run: KfoldRun) -> None:
    """Write the comparison as CSV and as a page; nothing for runs made before it was chosen."""
    table = operating_point_table(run)
    if not len(table):
        return
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "operating_point.csv", table)
    shown = pd.DataFrame(
        {
            "Model": mark_model(row["model"], chosen_models(run)),
            "Measure": MEASURES[row["measure"]],
            "n": row["num_images"],
            "Threshold of the tables": row["fixed"],
            "Chosen on validation": row["tuned"],
            "Difference": format_interval(row["difference"], row["low"], row["high"]),
            "Thresholds": row["thresholds"],
            "Smallest component": row["components_px"],
        }
        for _, row in table.iterrows()
    )
    caption = (
        "Means over the test images at the threshold of the tables with every component kept, and "
        "at the threshold and smallest component (original pixels, 8-neighbours) with the highest "
        "mean Dice over all images of the validation part, which each training chose for itself "
        "before its test part was evaluated. Difference: chosen minus threshold of the tables, on "
        "the same images, an image once, averaged over its repeats, with its 95 % bootstrap "
        f"interval over groups. {describe_protocol(run)}"
    )
    explanation = (
        f"Thresholds from {THRESHOLDS[0]} to {THRESHOLDS[-1]} in steps of 0.05 and smallest "
        f"components of {', '.join(map(str, COMPONENTS_PX))} pixels were tried; of equal points "
        "the one nearest to 0.5 and 0 was taken. No test image had a part in the choice."
    )
    scores = ("Threshold of the tables", "Chosen on validation")
    sections: list[str | Table] = [explanation, Table(caption, shown, scores, keys=2)]
    write_page(folder, "operating_point", "Operating point", sections)


def operating_point_table(run: KfoldRun) -> pd.DataFrame:
    """Compare both ways of making masks, for every model whose counts have both.

    Returns:
        A row per model and measure of `MEASURES` that has images: num_images, num_groups, the
        means `fixed` and `tuned`, the paired difference tuned - fixed with low and high, and the
        ranges of the chosen thresholds and smallest components over trainings.
    """
    rows = []
    if set(TUNED) <= set(run.images):
        images = run.images.dropna(subset=TUNED)
        for model in run.models:
            own = images[images["model"] == model]
            chosen = _describe_choices(run.folds[run.folds["model"] == model])
            rows += [row | chosen for row in _compare(own, model)]
    columns = ["model", "measure", "num_images", "num_groups", "fixed", "tuned", "difference"]
    columns += ["low", "high", "thresholds", "components_px"]
    return pd.DataFrame(rows, columns=columns)


def _compare(images: pd.DataFrame, model: str) -> list[dict[str, object]]:
    tuned = images[TUNED].to_numpy(dtype=np.int64)
    scored = images.assign(
        fixed=images["dice"],
        tuned=compute_metrics(tuned)["dice"],
        false_fixed=(images["fp"] > 0).astype(float),
        false_tuned=(tuned[:, 1] > 0).astype(float),
    )
    averaged = average_repeats(scored, ["fixed", "tuned", "false_fixed", "false_tuned"])
    lesion = averaged["has_lesion"].astype(bool)
    parts = (
        ("dice_tumour", averaged[lesion], "fixed", "tuned"),
        ("dice_all", averaged if not lesion.all() else averaged[:0], "fixed", "tuned"),
        ("false_lesion", averaged[~lesion], "false_fixed", "false_tuned"),
    )
    rows: list[dict[str, object]] = []
    for measure, part, fixed, chosen in parts:
        if len(part):
            columns = np.column_stack([part[fixed], part[chosen], part[chosen] - part[fixed]])
            before, after, change = summarise(columns.astype(np.float64), part["group"])
            rows.append(
                {"model": model, "measure": measure, "num_images": len(part)}
                | {"num_groups": part["group"].nunique()}
                | {"fixed": before.mean, "tuned": after.mean}
                | {"difference": change.mean, "low": change.low, "high": change.high}
            )
    return rows


def _describe_choices(folds: pd.DataFrame) -> dict[str, str]:
    return {
        "thresholds": _span(folds.get("tuned_threshold")),
        "components_px": _span(folds.get("tuned_component_px")),
    }


def _span(chosen: "pd.Series[float] | None") -> str:
    """Say the range of a choice over the trainings."""
    values = [] if chosen is None else sorted(chosen.dropna())
    if not values:
        return ""
    return f"{values[0]:g}" if values[0] == values[-1] else f"{values[0]:g} to {values[-1]:g}"
