from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.results.pages.pareto import front_table, not_dominated, write_pareto
from busi_tune.results.pages.search_tables import (
    choices_table,
    leaders_table,
    rank_trials,
    write_search_tables,
)
from tests.results.conftest import read_search, search_for, write_inner_folds


def test_trials_are_ranked_complete_ones_first(search_run: Path) -> None:
    ranked = rank_trials(read_search(search_run))
    assert list(ranked["state"]) == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    assert ranked["value"][:4].is_monotonic_decreasing


def test_a_search_for_the_loss_ranks_the_smallest_first(search_run: Path) -> None:
    config = search_run / run_directory.CONFIG
    config.write_text(config.read_text().replace("monitor: val_dice", "monitor: val_loss"))
    ranked = rank_trials(read_search(search_run))
    assert ranked["value"][:4].is_monotonic_increasing


def test_trials_page_counts_states_and_shows_the_leaders(search_run: Path) -> None:
    write_search_tables(read_search(search_run))
    page = (search_run / "tables/trials.md").read_text()
    assert "6 trials: 4 complete, 1 pruned, 1 failed" in page
    assert "optimizer.lr" in page
    assert len([line for line in page.splitlines() if line.startswith("|")]) == 2 + 4


def test_choices_are_counted_with_their_best_and_median(search_run: Path) -> None:
    run = read_search(search_run)
    table = choices_table(run).set_index(["setting", "choice"])
    assert set(table.index.get_level_values("setting")) == {
        "model.architecture", "training.batch_size",
    }  # fmt: skip
    values = run.trials.loc[run.trials["model.architecture"] == "report_cnn", "value"]
    row = table.loc[("model.architecture", "report_cnn")]
    assert (row["trials"], row["complete"]) == (3, 3)
    assert (row["best"], row["median"]) == (values.max(), values.median())
    row = table.loc[("model.architecture", "unet")]
    assert (row["complete"], row["pruned"], row["failed"]) == (1, 1, 1)


def test_numeric_choices_are_found_where_the_column_has_gaps(search_run: Path) -> None:
    table = choices_table(read_search(search_run)).set_index(["setting", "choice"])
    assert table.loc[("training.batch_size", "4"), "trials"] == 2
    assert table.loc[("training.batch_size", "8"), "trials"] == 1


def test_pruned_trials_stand_with_the_best_that_they_had_seen(search_run: Path) -> None:
    run = read_search(search_run)
    ranked = rank_trials(run).set_index("trial")
    seen = run.epochs.loc[run.epochs["trial"] == 2, "val_dice"].max()
    assert ranked.loc[2, "best_seen"] == seen and np.isnan(ranked.loc[2, "value"])
    table = choices_table(run).set_index(["setting", "choice"])
    unet = run.trials[run.trials["model.architecture"] == "unet"]
    row = table.loc[("model.architecture", "unet")]
    assert row["best"] == unet["value"].max()
    assert row["best_seen"] == unet["best"].max()


def test_a_choice_under_a_condition_counts_where_it_was_in_use(search_run: Path) -> None:
    table = choices_table(read_search(search_run))
    sizes = table[table["setting"] == "training.batch_size"]
    assert sizes["trials"].sum() == 3


def test_a_constant_under_a_condition_counts_where_it_holds(search_run: Path) -> None:
    of_unet = {"model.architecture": "unet"}
    space = {
        "model.architecture": ["unet", "report_cnn"],
        "model.base_width": {"value": 8, "when": of_unet},
        "optimizer.name": {"value": "adam", "when": {"model.base_width": 8}},
        "loss.bce": 0.5,
    }
    search_for(search_run, {"search.space": space})
    trials = pd.read_csv(search_run / run_directory.TRIALS)
    constants = ["model.base_width", "optimizer.name"]
    trials.drop(columns=constants, errors="ignore").to_csv(search_run / run_directory.TRIALS)
    table = choices_table(read_search(search_run)).set_index(["setting", "choice"])
    assert "loss.bce" not in table.index.get_level_values("setting"), "all trials have it"
    unet = table.loc[("model.architecture", "unet")]
    assert unet["trials"] == 3
    for row in (("model.base_width", "8"), ("optimizer.name", "adam")):
        assert table.loc[row].equals(unet)


GUIDED = "good choices more often, so counts are no random sample"
DRAWN = "draws at random from the space"
STOPPED = "some were stopped, so the complete ones are no random sample"


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        ({}, [GUIDED], [DRAWN]),
        ({"sampler": "gp", "pruner": "none"}, [GUIDED], [DRAWN]),
        ({"sampler": "random"}, [f"{DRAWN}, but for known configurations", STOPPED], [GUIDED]),
        (
            {"sampler": "random", "pruner": "none", "start": []},
            [f"{DRAWN}. Differences between rows are no test."],
            ["no random sample"],
        ),
    ],
)
def test_choices_say_how_far_the_trials_are_a_random_sample(
    search_run: Path, settings: dict[str, Any], said: list[str], unsaid: list[str]
) -> None:
    search_for(search_run, {f"search.{name}": value for name, value in settings.items()})
    if "pruner" in settings:
        trials = pd.read_csv(search_run / run_directory.TRIALS)
        trials.replace({"state": {"PRUNED": "FAIL"}}).to_csv(search_run / run_directory.TRIALS)
    write_search_tables(read_search(search_run))
    page = (search_run / "tables/choices.md").read_text()
    assert [words for words in said if words not in page] == []
    assert [words for words in unsaid if words in page] == []


def test_a_search_over_optimisers_says_what_the_report_claims(search_run: Path) -> None:
    write_search_tables(read_search(search_run))
    assert "Adam" not in (search_run / "tables/choices.md").read_text()
    search_for(search_run, {"search.space": {"optimizer.name": ["adam", "sgd"]}})
    trials = pd.read_csv(search_run / run_directory.TRIALS)
    trials["optimizer.name"] = ["adam", "sgd"] * 3
    trials.to_csv(search_run / run_directory.TRIALS, index=False)
    write_search_tables(read_search(search_run))
    page = (search_run / "tables/choices.md").read_text()
    assert "The report chose Adam" in page and "gives no figures" in page
    assert "| optimizer.name | adam | 3 | 1 | 1 | 1 |" in page


def test_a_trial_with_several_inner_folds_has_seen_their_mean(search_run: Path) -> None:
    write_inner_folds(search_run)
    run = read_search(search_run)
    bests = run.epochs[run.epochs["trial"] == 2].groupby("fold")["val_dice"].max()
    assert len(bests) == 2
    assert rank_trials(run).set_index("trial").loc[2, "best_seen"] == pytest.approx(bests.mean())
    assert leaders_table(run)["trial"].notna().all()


def test_cost_that_no_trial_has_is_left_out(search_run: Path) -> None:
    assert "milliseconds_per_image" not in leaders_table(read_search(search_run))
    write_costs(search_run)
    assert "milliseconds_per_image" in leaders_table(read_search(search_run))


def write_costs(folder: Path, **columns: Any) -> None:
    """Give the four complete trials, 0, 1, 3 and 5, values and costs."""
    trials = pd.read_csv(folder / run_directory.TRIALS)
    complete = trials["state"] == "COMPLETE"
    trials.loc[complete, "value"] = [0.5, 0.7, 0.7, 0.6]
    trials.loc[complete, "num_parameters"] = [100, 400, 300, 400]
    trials["milliseconds_per_image"] = np.nan
    trials.loc[complete, "milliseconds_per_image"] = [2.0, 1.0, 3.0, 0.5]
    trials.assign(**columns).to_csv(folder / run_directory.TRIALS, index=False)


@pytest.mark.parametrize(
    ("objectives", "monitor", "front"),
    [
        # Trial 1 has the value of trial 3 for more parameters, trial 5 costs more for less.
        (["monitor", "parameters"], "val_dice", [3, 0]),
        (["monitor", "parameters", "milliseconds"], "val_dice", [3, 1, 5, 0]),
        (["monitor", "milliseconds"], "val_loss", [0, 5]),
    ],
)
def test_the_front_has_the_trials_that_no_other_beats_best_first(
    search_run: Path, objectives: list[str], monitor: str, front: list[int]
) -> None:
    write_costs(search_run)
    search_for(search_run, {"search.objectives": objectives, "training.monitor": monitor})
    table = front_table(read_search(search_run))
    assert list(table["trial"]) == front
    assert list(table)[: 1 + len(objectives)][:2] == ["trial", monitor]
    assert "optimizer.lr" in table


def test_equal_trials_are_all_on_the_front() -> None:
    gains = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0], [0.0, 3.0]])
    assert list(not_dominated(gains)) == [True, True, False, True]


def test_the_front_is_a_page_of_searches_with_several_objectives_alone(search_run: Path) -> None:
    write_pareto(read_search(search_run))
    assert not (search_run / "tables").exists()
    write_costs(search_run)
    search_for(search_run, {"search.objectives": ["monitor", "parameters"]})
    write_pareto(read_search(search_run))
    page = (search_run / "tables/pareto.md").read_text()
    assert "4 complete ones" in page and "val_dice, num_parameters" in page
    assert len(pd.read_csv(search_run / "tables/pareto.csv")) == 2
