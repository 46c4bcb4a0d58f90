"""A small version of the simulation in experiments/simulations, with its stated levels."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = 120
# Twice the standard error of a rate of 0.05 in so many rounds.
SLACK = 0.04


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    path = ROOT / "experiments" / "simulations" / "claims.py"
    spec = importlib.util.spec_from_file_location("claims_simulation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_made_up_differences_have_groups_and_trainings(claims: ModuleType) -> None:
    scenario = claims.Scenario("quiet", 4, 2, 0.0)
    groups, differences, trainings, ratio = claims.draw_run(scenario, np.random.default_rng(0))
    assert len(groups) == len(differences) and len(np.unique(groups)) == claims.NUM_GROUPS
    assert len(trainings) == 8
    assert ratio == pytest.approx(1 / 3, abs=0.05)
    means = np.array([differences[groups == group].mean() for group in np.unique(groups)])
    assert means.var() > 0.8 * claims.GROUP_SD**2


def test_wilsons_interval_covers_and_means_of_repeats_more_so(claims: ModuleType) -> None:
    rates = claims.study_shares(0.1, 120, 2000, seed=0)["rates"]
    assert 0.93 <= rates["one training"] <= rates["three repeats"]


def test_committed_results_are_of_the_scenarios_and_keep_the_level(claims: ModuleType) -> None:
    path = ROOT / "experiments" / "results" / "simulation" / "claims.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    false = [line for line in lines if line["study"] == "false positives"]
    assert [line["name"] for line in false] == [scenario.name for scenario in claims.SCENARIOS]
    page = path.with_suffix(".md").read_text()
    assert page == claims.to_page(lines)
    for line in false:
        # Beyond the test's assumption: half of a training's noise comes from shared images.
        if "half" not in line["name"]:
            assert line["rates"]["claim rule"] <= 0.05
