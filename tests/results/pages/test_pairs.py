import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from busi_tune import run_directory
from busi_tune.results.pages.conclusions import CAVEAT, RULE, describe_leaders
from busi_tune.results.pages.kfold_tables import models_table
from busi_tune.results.pages.pairs import COLUMNS, pairs_table, write_pairs
from busi_tune.results.read import KfoldRun
from busi_tune.statistics.paired import corrected_t
from busi_tune.statistics.power import repeats_needed
from tests.results.conftest import read_kfold
from tests.results.pages.made_up_run import NUM_IMAGES, build_run, only_row


def test_a_row_compares_the_same_images_and_trainings(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.78}, num_repeats=2)
    tumour = run.images[run.images["has_lesion"]]
    wide = tumour.pivot(index=["image", "repeat", "fold", "group"], columns="model", values="dice")
    difference = (wide["a"] - wide["b"]).rename("d").reset_index()
    per_image = difference.groupby("image").agg({"d": "mean", "group": "first"})
    row = only_row(pairs_table(run))
    assert list(pairs_table(run)) == list(COLUMNS)
    assert (row["num_images"], row["num_groups"], row["num_trainings"]) == (50, 30, 10)
    assert row["difference"] == pytest.approx(per_image["d"].mean())
    assert row["low"] < row["difference"] < row["high"]
    assert row["wilcoxon_p"] == pytest.approx(wilcoxon(per_image.groupby("group")["d"].mean())[1])
    trainings = difference.groupby(["repeat", "fold"])["d"].mean()
    test = corrected_t(trainings, 12 / 48)
    assert row["corrected_t"] == pytest.approx(test.statistic)
    assert (row["corrected_low"], row["corrected_high"]) == pytest.approx((test.low, test.high))
    assert row["superiority"] == pytest.approx((trainings > 0).mean())
    everything = only_row(pairs_table(run, images="all"))
    assert everything["num_images"] == NUM_IMAGES


@pytest.mark.parametrize(("levels", "sign"), [((0.8, 0.7), 1), ((0.7, 0.8), -1)])
def test_a_clear_difference_is_claimed_for_the_better(
    tmp_path: Path, levels: tuple[float, float], sign: int
) -> None:
    row = only_row(pairs_table(build_run(tmp_path, dict(zip("ab", levels, strict=True)))))
    better, worse = ("a", "b") if sign > 0 else ("b", "a")
    assert row["conclusion"].startswith(
        f"{better} is better than {worse}: its Dice is higher by 0."
    )
    assert np.sign([row["difference"], row["low"], row["corrected_t"]]).tolist() == [sign] * 3
    assert row["effect_size"] == sign
    assert row["repeats_needed"] is pd.NA


def test_an_undecided_pair_gets_no_claim_but_what_would_settle_it(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.75}, spread=0.03, noise=0.01)
    row = only_row(pairs_table(run))
    assert row["verdict"] == "undecided"
    assert row["conclusion"].startswith("No claim on a against b: the difference of 0.0")
    assert f"A difference of {row['detectable']:.3f} could have been detected" in row["conclusion"]
    assert f"about {row['repeats_needed']} repeats in all would settle" in row["conclusion"]
    assert row["repeats_needed"] > 1


def test_where_no_number_of_repeats_would_do_that_is_said(tmp_path: Path) -> None:
    row = only_row(pairs_table(build_run(tmp_path, {"a": 0.8, "b": 0.8}, spread=0.05)))
    assert row["repeats_needed"] is pd.NA
    assert "no number of repeats would settle the one observed" in row["conclusion"]


def test_models_chosen_on_these_images_get_no_claim_and_the_reason(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.9, "b": 0.5})
    run.folds["chosen_here"] = run.folds["model"] == "a"
    row = only_row(pairs_table(run))
    assert row["verdict"] == "chosen on these images"
    assert "No claim on a against b: a was chosen on these images" in row["conclusion"]
    assert row["corrected_t_holm"] < 0.05


def test_a_single_training_of_each_has_no_test_and_no_claim(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.9, "b": 0.5})
    first = {part: table[table["fold"] == 0] for part, table in
             (("folds", run.folds), ("images", run.images))}  # fmt: skip
    single = KfoldRun(tmp_path, run.config, first["folds"], run.epochs, first["images"])
    row = only_row(pairs_table(single))
    assert all(
        math.isnan(row[name]) for name in ("corrected_t_p", "corrected_t_holm", "detectable")
    )
    assert row["repeats_needed"] is pd.NA
    assert row["verdict"] == "untested"
    assert "there is 1" in row["conclusion"]
    assert row["difference"] > 0.3


def test_holm_is_over_all_pairs_of_the_table(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.79, "c": 0.7})
    table = pairs_table(run)
    assert list(zip(table["first"], table["second"], strict=True)) == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    for test in ("corrected_t", "wilcoxon"):
        p = table["corrected_t_p" if test == "corrected_t" else "wilcoxon_p"]
        assert table[f"{test}_holm"].min() == pytest.approx(3 * p.min())
    undecided = table[table["verdict"] == "undecided"]
    assert len(undecided) == 1
    alone = only_row(pairs_table(build_run(tmp_path, {"a": 0.8, "b": 0.79})))
    assert alone["num_trainings"] == 5


def test_repeats_are_reckoned_at_the_level_that_holm_left(tmp_path: Path) -> None:
    levels = {"a": 0.8, "b": 0.76, "c": 0.79}
    run = build_run(tmp_path, levels, spread=0.03, noise=0.01)
    table = pairs_table(run)
    undecided = table[table["verdict"] == "undecided"]
    assert list(undecided["second"]) == ["b", "c"]
    for _, row in undecided.iterrows():
        mean = (row["corrected_low"] + row["corrected_high"]) / 2
        sd = mean / row["corrected_t"] / math.sqrt(1 / 5 + 1 / 4)
        expected = repeats_needed(mean, sd, 5, 0.25, level=0.05 / 2)
        assert row["repeats_needed"] is pd.NA if expected is None else (
            row["repeats_needed"] == expected
        )  # fmt: skip
    assert undecided["repeats_needed"].count() == 1


def test_a_test_that_passes_without_the_interval_is_no_claim(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.801, "b": 0.8}, noise=0.0)
    images = run.images.reset_index(drop=True)
    # What cancels in every fold widens the interval over images, not the spread over folds.
    noise = pd.Series(0.02 * np.random.default_rng(1).normal(size=len(images)))
    noise -= noise.groupby([images["model"], images["fold"], images["has_lesion"]]).transform(
        "mean"
    )
    images["dice"] += noise
    run = KfoldRun(tmp_path, run.config, run.folds, run.epochs, images)
    row = only_row(pairs_table(run))
    assert row["corrected_t_holm"] < 0.05
    assert row["low"] < 0 < row["high"]
    assert row["verdict"] == "undecided"
    assert "asks for more images" in row["conclusion"]


def test_of_distances_the_smaller_is_better(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.6})
    row = only_row(pairs_table(KfoldRun(
        tmp_path, run.config, run.folds, run.epochs, run.images.assign(hd95=run.images["dice"] * 50)
    ), "hd95"))  # fmt: skip
    assert row["difference"] > 0
    assert row["superiority"] == 0


def test_secondary_scores_get_no_verdict_and_no_sentence(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.6})
    images = run.images.assign(nsd=run.images["dice"])
    row = only_row(
        pairs_table(KfoldRun(tmp_path, run.config, run.folds, run.epochs, images), "nsd")
    )
    assert (row["verdict"], row["conclusion"]) == ("", "")
    assert row["repeats_needed"] is pd.NA
    assert row["corrected_t_holm"] < 0.05


def test_models_without_a_score_in_common_are_not_compared(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8, "b": 0.7})
    run.images.loc[run.images["model"] == "a", "dice"] = np.nan
    row = only_row(pairs_table(run))
    assert (row["num_images"], row["num_trainings"]) == (0, 0)
    assert "there are none" in row["conclusion"]


def test_page_states_rule_protocol_and_conclusions_and_is_the_same_twice(kfold_run: Path) -> None:
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    images.assign(nsd=images["dice"], hd95=10.0).to_csv(kfold_run / run_directory.IMAGES)
    run = read_kfold(kfold_run)
    models = models_table(run)
    write_pairs(run, models)
    files = {path.name: path.read_bytes() for path in (kfold_run / "tables").iterdir()}
    write_pairs(run, models)
    assert files == {path.name: path.read_bytes() for path in (kfold_run / "tables").iterdir()}
    assert set(files) == {"pairs.csv", "pairs.md", "pairs.tex"}
    page = files["pairs.md"].decode()
    for said in (RULE, CAVEAT, "n = 16 images", "n = 24 images", "original pixels", "scores 1",
                 "NSD at 2 pixels", "| unet | report_cnn |"):  # fmt: skip
        assert said in page
    table = pd.read_csv(kfold_run / "tables/pairs.csv")
    assert list(table["score"] + " " + table["images"]) == [
        "dice tumour", "dice all", "nsd tumour", "hd95 tumour",
    ]  # fmt: skip
    for sentence in table["conclusion"][:2]:
        assert f"- {sentence}" in page
    assert table["verdict"][2:].isna().all()
    assert "\N{DAGGER}" not in page


def test_a_chosen_models_name_and_p_values_are_marked(kfold_run: Path) -> None:
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    folds.assign(chosen_here=folds["model"] == "unet").to_csv(kfold_run / run_directory.FOLDS)
    run = read_kfold(kfold_run)
    write_pairs(run, models_table(run))
    page = (kfold_run / "tables/pairs.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| unet")]
    assert len(rows) == 2
    for row in rows:
        assert row[:2] == ["| unet\N{DAGGER}", "report_cnn"]
        assert row[3].endswith("\N{DAGGER}") and row[5].endswith("\N{DAGGER}")
    assert page.count("\N{DAGGER} chosen on these images, which flatters the figures.") == 2
    assert r"unet\(\dagger\)" in (kfold_run / "tables/pairs.tex").read_text()


@pytest.mark.parametrize(("second", "said"), [(0.78, True), (0.7, False)])
def test_a_second_rank_inside_the_firsts_interval_is_said(second: float, said: bool) -> None:
    models = pd.DataFrame({
        "model": ["b", "a"], "images": "tumour", "dice_mean": [second, 0.8],
        "dice_low": [second - 0.05, 0.75], "dice_high": [second + 0.05, 0.85],
        "chosen_here": [True, False],
    })  # fmt: skip
    sentence = describe_leaders(models, "tumour")
    assert sentence == said * (
        "By mean Dice, a is rank 1 with 0.800 [0.750, 0.850] and b (chosen on these images) "
        "rank 2 with 0.780: rank 2 lies inside rank 1's interval."
    )
    assert not describe_leaders(models.head(1), "tumour")


def test_a_single_model_has_no_pairs(tmp_path: Path) -> None:
    run = build_run(tmp_path, {"a": 0.8})
    assert len(pairs_table(run)) == 0
    assert write_pairs(run, pd.DataFrame()) is None
    assert not (tmp_path / "tables").exists()
