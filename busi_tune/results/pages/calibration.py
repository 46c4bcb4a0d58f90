"""How far each model's probabilities may be believed, before and after a temperature."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.calibration import (
    NUM_BINS,
    UNCERTAIN,
    Histogram,
    brier_score,
    calibration_error,
    log_loss,
    uncertain,
)
from busi_tune.results.calibrated import SETS, Calibrated
from busi_tune.results.marks import chosen_models, explain_mark, mark_model
from busi_tune.results.pages.tables import Table, write_csv, write_page
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.paired import corrected_t

_EXPLANATION = (
    "The temperature divides the logits of every pixel alike; above 1 the network was too sure. It "
    "moves no probability across 0.5, so masks at 0.5 and their Dice stay what they are. Each "
    "training's temperature is the one with the lowest negative log-likelihood on all images of "
    "its own validation part (Guo et al. 2017); no test image has a part in it. Logits are those "
    "in original pixels, rounded to eighths."
)

_READING = (
    "Nearly all pixels are background on which the network is right and sure, so the error "
    "over all pixels is small whatever happens at the lesions' outlines; the error of the "
    "uncertain pixels is the one to look at there. Pixels of an image are no independent "
    "witnesses: there is no interval over pixels."
)


def write_calibration(run: KfoldRun, trainings: Sequence[Calibrated]) -> None:
    """Write the table as CSV and as a page; nothing where no training kept its logits."""
    table = calibration_table(run, trainings)
    if not len(table):
        return
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "calibration.csv", table)
    shown = pd.DataFrame(
        {
            "Model": mark_model(row["model"], chosen_models(run)),
            "Images": SETS[row["images"]],
            "Trainings": row["num_trainings"],
            "Temperature": _span(row["temperature_low"], row["temperature_high"]),
            "ECE": row["ece"],
            "ECE after": row["ece_after"],
            "Change of ECE": _change(row),
            "Uncertain pixels": f"{100 * row['uncertain_share']:.2g} %",
            "Their ECE": row["ece_uncertain"],
            "Their ECE after": row["ece_uncertain_after"],
            "NLL": row["nll"],
            "NLL after": row["nll_after"],
            "Brier": row["brier"],
            "Brier after": row["brier_after"],
        }
        for _, row in table.iterrows()
    ).round(4)
    sections: list[str | Table] = [_EXPLANATION, Table(_caption(run), shown, keys=2), _READING]
    write_page(folder, "calibration", "Calibration", sections)


def calibration_table(run: KfoldRun, trainings: Sequence[Calibrated]) -> pd.DataFrame:
    """Average the calibration of every model's trainings, before and after the temperature.

    Returns:
        A row per model and set of images: num_trainings; temperature_low and _high, the range;
        ece, nll, brier and ece_uncertain, each also `_after`; uncertain_share of the pixels; the
        difference of ece, after minus before, with low and high.
    """
    rows: list[dict[str, object]] = []
    for model in dict.fromkeys(training.model for training in trainings):
        own = [training for training in trainings if training.model == model]
        temperatures = [training.temperature for training in own]
        for images in SETS:
            scored = [
                _score(training.test[images], training.temperature)
                for training in own
                if images in training.test
            ]
            if scored:
                rows.append(
                    {"model": model, "images": images, "num_trainings": len(scored)}
                    | {"temperature_low": min(temperatures), "temperature_high": max(temperatures)}
                    | _summarise(pd.DataFrame(scored), run.test_over_train())
                )
    return pd.DataFrame(rows)


def _caption(run: KfoldRun) -> str:
    low, high = UNCERTAIN
    return (
        f"{'' if run.config.data.root else 'Synthetic images. '}Calibration over the original "
        "pixels of the test images: expected calibration error (ECE, "
        f"{NUM_BINS} bins of equal width of the probability of lesion), negative log-likelihood "
        "(NLL, nats) and Brier score, as predicted and after the temperature. Each is the mean "
        "over trainings of the figure over all pixels of a training's test part; Temperature: "
        "range over trainings. Change of ECE: after minus before, with its 95 % interval by the "
        "corrected t over trainings; none where there is a single one. Uncertain pixels: those "
        f"with a probability of {low} to {high} as predicted.{explain_mark(run)}"
    )


def _score(histogram: Histogram, temperature: float) -> dict[str, float]:
    scores: dict[str, float] = {}
    for ending, value in (("", 1.0), ("_after", temperature)):
        scores |= {
            f"ece{ending}": calibration_error(histogram, value),
            f"nll{ending}": log_loss(histogram, value),
            f"brier{ending}": brier_score(histogram, value),
            f"ece_uncertain{ending}": calibration_error(uncertain(histogram), value),
        }
    return scores | {"uncertain_share": uncertain(histogram).sum() / histogram.sum()}


def _summarise(scores: pd.DataFrame, test_over_train: float) -> dict[str, object]:
    change = corrected_t(scores["ece_after"] - scores["ece"], test_over_train)
    means = {str(name): value for name, value in scores.mean().items()}
    return {**means, "difference": change.difference, "low": change.low, "high": change.high}


def _span(low: float, high: float) -> str:
    texts = list(dict.fromkeys(f"{value:.2f}" for value in (low, high)))
    return " to ".join(texts)


def _change(row: "pd.Series[float]") -> str:
    change = f"{row['difference']:+.4f}"
    return change if np.isnan(row["low"]) else f"{change} [{row['low']:+.4f}, {row['high']:+.4f}]"
