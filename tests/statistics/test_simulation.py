"""A small version of the simulation in experiments/simulations, with its stated levels."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from busi_tune.results.pages.conclusions import CAVEAT

ROOT = Path(__file__).parents[2]
ROUNDS = 120
# Twice the standard error of a rate of 0.05 in so many rounds.
SLACK = 0.04


@pytest.fixture(scope="module")
def claims() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        # As for the script, beside which the module of its draws lies.
        patch.syspath_prepend(ROOT / "experiments" / "simulations")
        yield importlib.import_module("claims")


@pytest.fixture(scope="module")
def draws(claims: ModuleType) -> ModuleType:
    """The module from which the simulation has its draws."""
    return importlib.import_module(claims.draw_run.__module__)


@pytest.fixture(scope="module")
def noisy(claims: ModuleType) -> list[dict[str, Any]]:
    scenario = claims.Scenario("noise of training", 5, 3, 0.04, 0.015)
    lines: list[dict[str, Any]] = claims.study_false_positives(scenario, ROUNDS, seed=0)
    return lines


def test_on_equal_models_the_rule_of_claims_keeps_its_level(noisy: list[dict[str, Any]]) -> None:
    rates = noisy[0]["rates"]
    assert rates["claim rule"] <= rates["corrected t"] <= 0.05 + SLACK


@pytest.mark.parametrize(
    "test", ["plain t over trainings", "Wilcoxon on groups", "bootstrap over groups"]
)
def test_what_leaves_out_trainings_or_overlap_is_too_optimistic(
    noisy: list[dict[str, Any]], test: str
) -> None:
    assert noisy[0]["rates"][test] > 0.05 + SLACK


def test_the_detectable_difference_is_detected_as_often_as_said(
    noisy: list[dict[str, Any]],
) -> None:
    assert 0.8 - 2 * SLACK <= noisy[1]["achieved_power"] < 1


def test_without_noise_of_training_the_interval_over_groups_keeps_its_level(
    claims: ModuleType,
) -> None:
    scenario = claims.Scenario("no noise of training", 5, 1, 0.0)
    rates = claims.study_false_positives(scenario, ROUNDS, seed=0)[0]["rates"]
    for test in ("bootstrap over groups", "Wilcoxon on groups", "P(A > B) excludes 0.5"):
        assert rates[test] <= 0.05 + SLACK


def test_made_up_differences_have_groups_and_trainings(draws: ModuleType) -> None:
    scenario = draws.Scenario("quiet", 4, 2, 0.0)
    groups, differences, trainings, ratio = draws.draw_run(scenario, np.random.default_rng(0))
    assert len(groups) == len(differences) and len(np.unique(groups)) == draws.NUM_GROUPS
    assert len(trainings) == 8
    assert ratio == pytest.approx(1 / 3, abs=0.05)
    means = np.array([differences[groups == group].mean() for group in np.unique(groups)])
    assert means.var() > 0.8 * draws.GROUP_SD**2


def test_wilsons_interval_covers_and_means_of_repeats_more_so(claims: ModuleType) -> None:
    rates = claims.study_shares(0.1, 120, 2000, seed=0)["rates"]
    assert 0.93 <= rates["one training"] <= rates["three repeats"]


def test_holm_keeps_the_level_over_the_pairs_of_several_models(claims: ModuleType) -> None:
    scenario = claims.Scenario("noise of training", 5, 3, 0.04, 0.015)
    rates = claims.study_family(scenario, 4, ROUNDS, seed=0)["rates"]
    assert rates["any claim, with Holm"] <= 0.05 + SLACK
    assert rates["any claim, with Holm"] < rates["any claim, without Holm"]


def test_any_two_of_several_models_differ_as_a_pair_does(draws: ModuleType) -> None:
    scenario = draws.Scenario("noise of training", 5, 1, 0.04)
    rng = np.random.default_rng(0)
    groups, scores, trainings, _ = draws.draw_models(scenario, 200, rng)
    assert scores.shape == (200, len(groups)) and trainings.shape == (200, 5)
    pairs = (scores[::2] - scores[1::2]) / np.sqrt(2)
    expected = draws.GROUP_SD**2 + draws.IMAGE_SD**2 + 0.04**2
    assert pairs.var() == pytest.approx(expected, rel=0.1)


def test_committed_results_are_of_the_scenarios_and_keep_the_level(claims: ModuleType) -> None:
    path = ROOT / "experiments" / "results" / "simulation" / "claims.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    false = [line for line in lines if line["study"] == "false positives"]
    assert [line["name"] for line in false] == [scenario.name for scenario in claims.SCENARIOS]
    families = [line for line in lines if line["study"] == "several models"]
    assert [(line["num_models"], line["name"]) for line in families] == [
        (num_models, scenario.name) for num_models, scenario in claims.FAMILIES
    ]
    page = path.with_suffix(".md").read_text()
    assert page == claims.to_page(lines)
    for line in false:
        # Beyond the test's assumption: half of a training's noise comes from shared images.
        if "half" not in line["name"]:
            assert line["rates"]["claim rule"] <= 0.05
    for line in families:
        assert line["rates"]["any claim, with Holm"] <= 0.05


def test_the_caveat_of_the_pages_is_what_was_simulated(claims: ModuleType) -> None:
    path = ROOT / "experiments" / "results" / "simulation" / "claims.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    missed = [
        line["rates"]["bootstrap over groups"]
        for line in lines
        if line["study"] == "false positives" and line["training_sd"] > 0
    ]
    assert f"in {min(missed):.0%} to {max(missed):.0%} of runs".replace("%", " %") in CAVEAT
