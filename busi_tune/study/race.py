"""Whether a trial that trains fold by fold can still win: a race against the best so far.

After each inner fold the trial's Dice per image is compared with the best trial's on the same
images, as in F-race (Birattari et al., GECCO 2002) with a t-test. It decides what is trained and
nothing else: it is looked at several times and against a trial that was chosen for being best, so
its level is no error rate and it is never reported as a result.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from busi_tune import run_directory

MIN_GROUPS = 10
"""Groups of images below which nothing is decided."""


def is_beaten(own: Sequence[Path], best: Sequence[Path], monitor: str, level: float) -> bool:
    """Tell whether the one-sided paired t-test over groups puts a trial below the best so far.

    Args:
        own: folders of the trial's trainings, the inner folds ended so far.
        best: those of the best trial, fold by fold.
        monitor: val_dice, or val_dice_tumour for tumour images alone.
        level: of the test.
    """
    folds = min(len(own), len(best))
    ours, theirs = (_validation(folders[:folds]) for folders in (own, best))
    shared = ours.index.intersection(theirs.index)
    if monitor == "val_dice_tumour":
        shared = shared[(ours.loc[shared, "tp"] + ours.loc[shared, "fn"]).to_numpy() > 0]
    differences = ours.loc[shared, "dice"] - theirs.loc[shared, "dice"]
    return is_below_zero(differences.groupby(ours.loc[shared, "group"]).mean(), level)


def is_below_zero(differences: "pd.Series[float]", level: float) -> bool:
    """Tell whether the mean of independent differences is below 0 at a level of a t-test."""
    from scipy.stats import ttest_1samp

    if len(differences) < MIN_GROUPS or differences.nunique() < 2:
        return False
    return bool(ttest_1samp(differences, 0.0, alternative="less").pvalue < level)


def _validation(folders: Sequence[Path]) -> pd.DataFrame:
    text = {"image": str, "group": str, "part": str}
    frames = [pd.read_csv(folder / run_directory.IMAGES, dtype=text) for folder in folders]
    rows = pd.concat(frames)
    return rows[rows["part"] == "validation"].set_index("image")
