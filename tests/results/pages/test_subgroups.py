import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.results.pages.kfold_tables import models_table
from busi_tune.results.pages.subgroups import (
    TRAITS,
    compare_quartiles,
    describe_difference,
    subgroups_table,
    write_subgroups,
)
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.intervals import summarise
from tests.results.conftest import read_kfold

SIZE, IRREGULARITY = TRAITS


def build_run(slope: float = 0.0, num_repeats: int = 1) -> KfoldRun:
    """Make up 40 lesions of 1 to 40 % of their image and 10 normal images.

    Args:
        slope: by how much Dice rises from no lesion to a full image.
        num_repeats: repeats, each a little better than the one before.
    """
    number, noise = np.arange(1, 41), 0.02 * np.random.default_rng(0).normal(size=40)
    lesions = pd.DataFrame({
        "image": [f"lesion {n}" for n in number], "label": np.where(number % 2, "benign", "other"),
        "group": [str(n // 3) for n in number], "tp": number, "fp": 1, "fn": 0,
        "dice": 0.5 + slope * number / 100 + noise, "irregularity": (number * 7 % 40 + 1) / 100,
    })  # fmt: skip
    normal = pd.DataFrame({
        "image": [f"normal {n}" for n in range(10)], "label": "normal",
        "group": [f"n{n}" for n in range(10)], "tp": 0, "fp": [1, 1, 1] + [0] * 7, "fn": 0,
        "dice": [0.0] * 3 + [1.0] * 7, "irregularity": math.nan,
    })  # fmt: skip
    images = pd.concat([lesions, normal], ignore_index=True)
    for score in ("iou", "precision", "recall", "specificity"):
        images[score] = images["dice"]
    images = images.assign(model="unet", fold=0, height=10, width=10)
    images["has_lesion"] = images["tp"] > 0
    repeats = [
        images.assign(repeat=repeat, dice=images["dice"] + 0.01 * repeat)
        for repeat in range(num_repeats)
    ]
    folds = pd.DataFrame({"model": ["unet"] * num_repeats, "chosen_here": False})
    return KfoldRun(Path(), Config(), folds, pd.DataFrame(), pd.concat(repeats))


def test_every_subgroup_has_its_mean_and_interval_over_groups() -> None:
    run = build_run()
    table = subgroups_table(run).set_index(["kind", "name"])
    dice, group = run.images["dice"], run.images["group"]
    for place, chosen in {
        ("images", "tumour"): run.images["has_lesion"],
        ("images", "all"): run.images["has_lesion"] | True,
        ("class", "benign"): run.images["label"] == "benign",
        ("class", "normal"): run.images["label"] == "normal",
        ("size", "quartile 1"): run.images["tp"].between(1, 10),
        ("size", "quartile 4"): run.images["tp"].between(31, 40),
        ("irregularity", "quartile 2"): run.images["irregularity"].between(0.105, 0.205),
    }.items():
        (expected,) = summarise(dice[chosen].to_numpy()[:, None], group[chosen])
        row: Any = table.loc[place]
        assert row["num_images"] == chosen.sum()
        found = tuple(row[f"dice_{part}"] for part in ("mean", "low", "high"))
        assert found == pytest.approx((expected.mean, expected.low, expected.high))


def test_quartiles_have_their_limits_and_a_quarter_each() -> None:
    table = subgroups_table(build_run())
    quartiles = table[table["kind"] == "size"]
    assert list(quartiles["num_images"]) == [10] * 4
    # Sizes are 0.01, ..., 0.40; numpy's quartile lies a quarter on its way from 0.10 to 0.11.
    limits = [0.1075, 0.205, 0.3025]
    assert list(quartiles["up_to"][:3]) == pytest.approx(limits)
    assert list(quartiles["above"][1:]) == pytest.approx(limits)


def test_an_image_counts_once_whatever_the_repeats() -> None:
    once, thrice = (subgroups_table(build_run(num_repeats=n)) for n in (1, 3))
    assert list(once["num_images"]) == list(thrice["num_images"])
    tumour = thrice[thrice["name"] == "tumour"].iloc[0]
    assert tumour["dice_mean"] == pytest.approx(once["dice_mean"][0] + 0.01)


def test_false_lesions_have_wilsons_interval_on_the_number_of_images() -> None:
    expected = binomtest(3, 10).proportion_ci(method="wilson")
    for repeats in (1, 3):
        table = subgroups_table(build_run(num_repeats=repeats))
        row = table[(table["kind"] == "images") & (table["name"] == "normal")].iloc[0]
        assert row["num_images"] == 10
        assert row["false_lesion_mean"] == pytest.approx(0.3)
        ends = row["false_lesion_low"], row["false_lesion_high"]
        assert ends == pytest.approx((expected.low, expected.high))


def test_both_pages_agree_on_false_lesions(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    subgroups, models = subgroups_table(run), models_table(run)
    columns = ["num_images", "false_lesion_mean", "false_lesion_low", "false_lesion_high"]
    normal = subgroups[(subgroups["kind"] == "images") & (subgroups["name"] == "normal")]
    expected = models[models["images"] == "normal"]
    assert normal[columns].to_numpy() == pytest.approx(expected[columns].to_numpy())


@pytest.mark.parametrize(
    ("slope", "said"),
    [(-0.8, "This run shows the report's limit too: larger tumours are segmented worse."),
     (0.8, "does not show the report's limit that larger tumours are segmented worse, but"),
     (0.0, "includes zero.")],
)  # fmt: skip
def test_outer_quarters_are_compared_in_words(slope: float, said: str) -> None:
    (sentence,) = compare_quartiles(build_run(slope), SIZE)
    assert sentence.startswith("unet: ")
    assert said in sentence
    assert ("report" in sentence) is (slope != 0)


def test_a_difference_is_written_with_its_sign_in_words() -> None:
    assert describe_difference((-0.1, -0.15, -0.05), IRREGULARITY) == (
        "Dice is lower in the most irregular quarter than in the most regular, by 0.100 [0.050, "
        "0.150]. This run shows the report's limit too: complex shapes are segmented worse."
    )


def test_few_lesions_have_no_quartiles_and_older_runs_no_irregularity() -> None:
    run = build_run()
    few = run.images[run.images["image"].isin([f"lesion {n}" for n in range(1, 8)])]
    small = KfoldRun(run.folder, run.config, run.folds, run.epochs, few)
    assert set(subgroups_table(small)["kind"]) == {"images", "class"}
    assert compare_quartiles(small, SIZE) == []
    older = run.images.drop(columns="irregularity")
    table = subgroups_table(KfoldRun(run.folder, run.config, run.folds, run.epochs, older))
    assert set(table["kind"]) == {"images", "class", "size"}


def test_page_states_protocol_and_limits_and_is_the_same_twice(kfold_run: Path) -> None:
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    images.assign(nsd=images["dice"], hd95=10.0).to_csv(kfold_run / run_directory.IMAGES)
    run = read_kfold(kfold_run)
    write_subgroups(run)
    files = {path.name: path.read_bytes() for path in (kfold_run / "tables").iterdir()}
    write_subgroups(run)
    assert files == {path.name: path.read_bytes() for path in (kfold_run / "tables").iterdir()}
    assert set(files) == {"subgroups.csv", "subgroups.md", "subgroups.tex"}
    page = files["subgroups.md"].decode()
    for said in ("original pixels", "scores 1", "Wilson", "| tumour | unet | 16 |",
                 "| malignant | report_cnn | 8 |", "% of the image | unet | 4 |",
                 "diagonal", "| Images | Model | n | Dice |"):  # fmt: skip
        assert said in page
