"""What a nested cross-validation found: the winner of each fold, and how much a search flatters.

The value by which a search chooses is its best of many, so it is too high for other images. Here
the winners are tested on folds that their searches never saw; the difference is the optimism.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.data.splits import split_key
from busi_tune.evaluation.counts import COUNTS, compute_metrics
from busi_tune.kfold_models import NESTED, search_settings
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.pages.tables import (
    Table,
    format_interval,
    format_score,
    write_csv,
    write_page,
)
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.paired import corrected_t

IDENTITY = ["repeat", "fold"]
VALUES = ["inner", "outer", "optimism"]
LABELS = {
    "repeat": "Repeat",
    "fold": "Fold",
    "num_trials": "Trials",
    "trial": "Winner",
    "num_test": "n",
    "inner": "Inner",
    "outer": "Outer",
    "optimism": "Optimism",
}


@dataclass(frozen=True)
class Estimate:
    """What a search alone says, what its winners do on the outer folds, and the difference."""

    monitor: str
    num_folds: int
    plain: float
    """Mean inner value of the winners: what searches alone would have reported."""
    nested: float
    """Mean of the outer folds."""
    optimism: float
    low: float
    high: float
    """Ends of its approximate 95 % interval, by the corrected t over outer folds."""
    num_test: int
    """Test images of all outer folds, each as often as it was tested."""

    @property
    def conclusion(self) -> str:
        """What the optimism comes to, in words."""
        said = f"{self.optimism:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        if np.isnan(self.low):
            return "One fold has no interval, so nothing is said of the optimism."
        if self.low > 0:
            return (
                f"The winners' values in their searches were above those on the outer folds, by "
                f"{said}: the search's own value seems too high for other images, as far as this "
                "approximate interval tells."
            )
        if self.high < 0:
            return f"The winners did better on the outer folds than in their searches, by {said}."
        return (
            f"The interval of the optimism, {said}, contains 0: {self.num_folds} folds do not tell "
            "whether the search's own value is too high."
        )


def write_nested(run: KfoldRun) -> None:
    """Write nested.csv and nested_estimate.csv and their page, where searches were nested."""
    if NESTED not in run.models or not (run.folder / run_directory.NESTED_TRIALS).exists():
        return
    winners = winners_table(run)
    estimate = estimate_optimism(run, winners)
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "nested.csv", winners)
    row = {**asdict(estimate), "conclusion": estimate.conclusion}
    write_csv(folder / "nested_estimate.csv", pd.DataFrame([row]))
    settings = [name for name in winners if name not in (*LABELS, "key")]
    used = [name for name in settings if winners[name].notna().any()]
    what = "images with a lesion" if estimate.monitor == "val_dice_tumour" else "images"
    fold_rows = winners[[*LABELS, *used]].convert_dtypes().rename(columns=LABELS)
    caption = (
        "The winner of the search inside each outer training set. Inner: the value by which it was "
        f"chosen, the mean Dice over the validation {what} at training size in its best epoch. "
        f"Outer: the same mean over the n test {what} of the fold, looked at once, by the winner "
        f"trained again under the same seed. {EMPTY_RULE}"
    )
    sections: list[str | Table] = [
        "Both values are counted at training size, so that like is compared with like; the tables "
        f"of models have the Dice of `{NESTED}` in original pixels.",
        Table(caption, fold_rows, scores=tuple(LABELS[name] for name in VALUES)),
        Table(_estimate_caption(estimate), _estimate_rows(estimate)),
        estimate.conclusion,
    ]
    missing = run.config.kfold.num_folds * run.config.kfold.num_repeats - len(winners)
    if missing:
        sections.append(f"{missing} of the folds have no tested winner and are left out.")
    write_page(folder, "nested", "Nested cross-validation", sections)


def winners_table(run: KfoldRun) -> pd.DataFrame:
    """Return a row per outer fold: its winner's trial, settings, inner and outer value."""
    trials = pd.read_csv(run.folder / run_directory.NESTED_TRIALS, dtype={"key": str})
    columns = [str(column) for column in trials]
    settings = columns[columns.index("reason") + 1 :]
    counts = trials.groupby(IDENTITY, as_index=False).agg(num_trials=("trial", "size"))
    winners = trials[trials["chosen"]].rename(columns={"value": "inner"})
    winners = winners[[*IDENTITY, "trial", "inner", *settings]].merge(counts, on=IDENTITY)
    table = winners.merge(_outer_values(run), on=IDENTITY)
    table["optimism"] = table["inner"] - table["outer"]
    order = [*IDENTITY, "key", "num_trials", "trial", "num_test", *VALUES, *settings]
    return table[order].sort_values(IDENTITY, ignore_index=True)


def estimate_optimism(run: KfoldRun, winners: pd.DataFrame) -> Estimate:
    """Estimate the optimism, paired over outer folds."""
    folds = winners[["repeat", "fold"]].to_numpy(np.int64).tolist()
    ratio = run.test_over_train(split_key(repeat, fold) for repeat, fold in folds)
    test = corrected_t(winners["optimism"], ratio)
    return Estimate(
        monitor=_monitor(run),
        num_folds=len(winners),
        plain=float(winners["inner"].mean()),
        nested=float(winners["outer"].mean()),
        optimism=test.difference,
        low=test.low,
        high=test.high,
        num_test=int(winners["num_test"].sum()),
    )


def _outer_values(run: KfoldRun) -> pd.DataFrame:
    """Measure the searches' monitor on each outer fold, from counts at training size."""
    images = run.images[run.images["model"] == NESTED]
    counts = images[[f"{name}_resized" for name in COUNTS]].to_numpy(dtype=np.int64)
    images = images.assign(outer=compute_metrics(counts)["dice"])
    if _monitor(run) == "val_dice_tumour":
        images = images[counts[:, 0] + counts[:, 2] > 0]
    return images.groupby([*IDENTITY, "key"], as_index=False).agg(
        outer=("outer", "mean"), num_test=("outer", "size")
    )


def _monitor(run: KfoldRun) -> str:
    own = search_settings(run.config)
    return str(own.get("training.monitor", run.config.training.monitor))


def _estimate_caption(estimate: Estimate) -> str:
    return (
        f"Over {estimate.num_folds} outer folds with n = {estimate.num_test} tests. Plain: the "
        "mean inner value of the winners, what a search alone would have reported. Nested: the "
        "mean of the outer folds. Optimism: plain minus nested, paired over folds, with its 95 % "
        "interval by the t distribution with the variance of overlapping training sets (Nadeau "
        "and Bengio 2003). The interval is approximate: it takes the inner values as they are, and "
        "leaves out that each is a mean over few validation images, which the folds share, and "
        f"that another search might have chosen another winner. {EMPTY_RULE}"
    )


def _estimate_rows(estimate: Estimate) -> pd.DataFrame:
    interval = format_interval(estimate.optimism, estimate.low, estimate.high)
    values = [format_score(estimate.plain), format_score(estimate.nested), interval]
    return pd.DataFrame({"Estimate": ["Plain", "Nested", "Optimism"], "Mean Dice": values})
