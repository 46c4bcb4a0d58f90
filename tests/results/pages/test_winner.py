"""The winner's page on a worked example of two refits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.results.pages.winner import (
    closed_test_table,
    closing_lines,
    read_refitted,
    refits_table,
    write_winner,
)
from busi_tune.results.read import SearchRun
from busi_tune.settings import override

NUM_IMAGES = 24


def write_run(folder: Path, known: float = 0.5, spread: float = 0.0) -> SearchRun:
    """Two trials and a baseline, two seeds each; trial 4 wins with Dice 0.7 on the test part."""
    refits = [
        {"model": model, "trial": trial, "refit": refit, "key": f"{model}{refit}"}
        | {"search_value": searched, "best_value": value + 0.1 * refit}
        | {"epochs": 3, "seconds": 2.0, "num_parameters": 10}
        for model, trial, searched, value in (
            ("trial 2", 2, 0.9, 0.5), ("trial 4", 4, 0.8, 0.6), ("known", None, None, 0.7),
        )
        for refit in (0, 1)
    ]  # fmt: skip
    noise = np.random.default_rng(0).normal(0, 1, NUM_IMAGES)
    noise -= noise.mean()
    rows = [
        {"image": f"{part} {number}", "model": model, "refit": refit, "part": part}
        | {
            "group": f"{part} {number // 2}",
            "dice": dice + spread * noise[number] * (model == "known"),
        }
        | {"tp": 5 * (number > 3), "fn": 5 * (number > 3)}
        for model, dice in (("trial 2", 0.4), ("trial 4", 0.7), ("known", known))
        for refit in (0, 1)
        for part in ("validation", "test")
        for number in range(NUM_IMAGES)
        if part == "validation" or model != "trial 2"
    ]
    pd.DataFrame(refits).to_csv(folder / run_directory.REFITS, index=False)
    pd.DataFrame(rows).to_csv(folder / run_directory.REFIT_IMAGES, index=False)
    return SearchRun(folder, Config(), pd.DataFrame(), pd.DataFrame())


def test_the_winner_is_the_trial_with_the_best_mean(tmp_path: Path) -> None:
    refitted = read_refitted(write_run(tmp_path))
    assert refitted is not None and refitted.winner == "trial 4"
    table = refits_table(refitted).set_index("model")
    assert table["refit_value"].to_dict() == pytest.approx(
        {"trial 2": 0.55, "trial 4": 0.65, "known": 0.75}
    )
    assert table.loc["trial 4", "optimism"] == pytest.approx(0.15)
    assert np.isnan(table.loc["known", "optimism"])
    assert table.loc["trial 4", "num_images"] == NUM_IMAGES - 4
    assert table.loc["trial 4", "dice_mean"] == pytest.approx(0.7)


def test_optimism_of_a_loss_is_positive_where_the_search_saw_less(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    config = override(Config(), {"training.monitor": "val_loss"})
    refitted = read_refitted(SearchRun(tmp_path, config, run.trials, run.epochs))
    assert refitted is not None and refitted.winner == "trial 2"
    table = refits_table(refitted).set_index("model")
    assert table.loc["trial 2", "optimism"] == pytest.approx(0.55 - 0.9)


@pytest.mark.parametrize(
    ("known", "spread", "said"),
    [(0.5, 0.01, "It is above known"), (0.9, 0.01, "It is below known"), (0.7, 0.2, "undecided")],
)
def test_what_the_test_part_tells_is_said_also_where_it_is_nothing(
    tmp_path: Path, known: float, spread: float, said: str
) -> None:
    run = write_run(tmp_path, known, spread)
    refitted = read_refitted(run)
    assert refitted is not None
    table = closed_test_table(refitted)
    assert table["model"].tolist() == ["known", "trial 4"] * 2 or table["model"].tolist() == [
        "trial 4", "known",
    ] * 2  # fmt: skip
    tumour = table[table["images"] == "tumour"].set_index("model")
    assert tumour.loc["trial 4", "num_images"] == NUM_IMAGES - 4
    row = tumour.loc["known"]
    assert row["winner_minus_low"] <= row["winner_minus_mean"] <= row["winner_minus_high"]
    assert any(said in line for line in closing_lines(run))


def test_the_page_says_that_the_test_part_was_looked_at_once(tmp_path: Path) -> None:
    write_winner(write_run(tmp_path))
    text = (tmp_path / "tables" / "winner.md").read_text()
    assert "looked at once" in text and "trial 4 (winner)" in text and "+0.150" in text
    before = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    write_winner(write_run(tmp_path))
    after = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    assert before == after


def test_a_search_without_refits_has_no_such_page(tmp_path: Path) -> None:
    run = SearchRun(tmp_path, Config(), pd.DataFrame(), pd.DataFrame())
    write_winner(run)
    assert closing_lines(run) == []
    assert list(tmp_path.iterdir()) == []


def test_a_later_winner_is_said_to_be_untested(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    images = pd.read_csv(tmp_path / run_directory.REFIT_IMAGES)
    lost = (images["part"] == "test") & (images["model"] == "trial 4")
    images[~lost].to_csv(tmp_path / run_directory.REFIT_IMAGES, index=False)
    assert closing_lines(run)[1].startswith("The closed test part was not looked at for trial 4")
    write_winner(run)
    assert "| known | tumour images" not in (tmp_path / "tables" / "winner.md").read_text()


def test_a_test_part_without_tumours_tells_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    images = pd.read_csv(tmp_path / run_directory.REFIT_IMAGES)
    images.loc[images["part"] == "test", ["tp", "fn"]] = 0
    images.to_csv(tmp_path / run_directory.REFIT_IMAGES, index=False)
    assert closing_lines(run)[1] == (
        "The closed test part has no tumour image, so nothing is said of it."
    )
