from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune.study.race import is_beaten, is_below_zero


def write_fold(folder: Path, dice: np.ndarray, fold: int = 0, group_size: int = 1) -> Path:
    folder.mkdir(parents=True)
    names = [f"{fold}-{number:02}" for number in range(len(dice))]
    rows = pd.DataFrame({"image": names, "part": "validation", "dice": dice, "tp": 5, "fn": 5})
    rows["group"] = [f"{fold}-{number // group_size}" for number in range(len(dice))]
    rows.loc[0, ["tp", "fn"]] = 0
    other = rows.assign(part="test", dice=0.0)
    pd.concat([rows, other]).to_csv(folder / "images.csv", index=False)
    return folder


def test_a_trial_that_is_worse_on_most_images_is_beaten(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 40)
    best = write_fold(tmp_path / "best", np.full(40, 0.7))
    worse = write_fold(tmp_path / "worse", 0.6 + noise)
    equal = write_fold(tmp_path / "equal", 0.7 + noise - noise.mean())
    assert is_beaten([worse], [best], "val_dice", 0.05)
    assert not is_beaten([equal], [best], "val_dice", 0.05)
    assert not is_beaten([best], [worse], "val_dice", 0.05)


def test_all_folds_so_far_count(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 20)
    trial = [
        write_fold(tmp_path / f"trial{fold}", 0.66 + noise - noise.mean(), fold)
        for fold in range(5)
    ]
    best = [write_fold(tmp_path / f"best{fold}", np.full(20, 0.7), fold) for fold in range(5)]
    assert not is_beaten(trial[:1], best, "val_dice", 0.05)
    assert is_beaten(trial, best, "val_dice", 0.05)


def test_near_duplicates_count_once(tmp_path: Path) -> None:
    # Two kinds of groups, as many below as above: no evidence, though one has ten images.
    differences = np.concatenate([np.repeat(-0.1, 100), np.repeat(0.1, 10)])
    best = write_fold(tmp_path / "best", np.full(110, 0.5))
    alone = write_fold(tmp_path / "alone", 0.5 + differences)
    assert is_beaten([alone], [best], "val_dice", 0.05)
    groups = pd.Series(np.concatenate([np.full(10, -0.1), np.full(10, 0.1)]))
    assert not is_below_zero(groups, 0.05)
    grouped = write_fold(tmp_path / "grouped", 0.5 + np.repeat([-0.1, 0.1] * 6, 10)[:110], 0, 10)
    assert not is_beaten([grouped], [best], "val_dice", 0.05)


def test_only_tumour_images_count_where_they_are_monitored(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    dice = 0.7 + generator.normal(0, 1e-3, 30)
    best = write_fold(tmp_path / "best", np.full(30, 0.7))
    dice[0] = 0.0  # the image without a lesion
    dice[1:] += 0.01
    trial = write_fold(tmp_path / "trial", dice)
    assert not is_beaten([trial], [best], "val_dice_tumour", 0.05)
    worse = write_fold(tmp_path / "worse", dice - 0.05)
    assert is_beaten([worse], [best], "val_dice_tumour", 0.05)


@pytest.mark.parametrize(
    "differences", [[-0.5, -0.4, -0.6] * 3, [0.0] * 30], ids=["few groups", "no difference"]
)
def test_nothing_is_decided_without_evidence(differences: list[float]) -> None:
    assert not is_below_zero(pd.Series(differences), 0.05)


def test_the_level_is_that_of_the_test() -> None:
    generator = np.random.default_rng(0)
    lost = sum(is_below_zero(pd.Series(generator.normal(0, 1, 25)), 0.1) for _ in range(600))
    assert 0.07 < lost / 600 < 0.13
