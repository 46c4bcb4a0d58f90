"""How often the statistics of a cross-validation are wrong, on made-up scores of models.

python experiments/simulations/claims.py --out experiments/results/simulation

False positives: two models that are equal in truth. A difference in the score of an image is made
of its group's, its own, noise of the training that tested it (its fold and seed, for all images of
the fold alike) and, where a scenario says so, of what the images of that training part have by
chance in favour of one model; folds share those. Counted is how often each test or interval finds a
difference, at a stated level of 0.05. One minus that is how often an interval covers the truth.

Several models: three or four that are equal in truth, each pair as above. Counted is how often a
run finds any difference, with and without Holm's correction for the number of pairs.

Coverage: how often the 95 % intervals of a mean score and of a share hold the true value.

Power: how often the corrected t test finds a difference of the size that is called detectable with
a power of 0.8.

Writes a JSON line per case, and tables of them in Markdown.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from draws import NUM_GROUPS, SCENARIOS, Scenario, draw_groups, draw_models, draw_run
from scipy.stats import ttest_1samp

from busi_tune.results.pages.tables import Table, to_markdown
from busi_tune.statistics.intervals import summarise, wilson
from busi_tune.statistics.paired import (
    ALPHA,
    corrected_t,
    holm,
    is_superior,
    signed_rank_p,
    superiority,
)
from busi_tune.statistics.power import detectable_difference

Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 500


FAMILIES = tuple((models, SCENARIOS[position]) for models in (3, 4) for position in (1, 2, 6))
"""Numbers of equal models, and the scenario that any two of them make."""


def judge_run(scenario: Scenario, rng: np.random.Generator) -> dict[str, float]:
    """Draw a run and note what each test and interval finds, which should be nothing."""
    groups, differences, trainings, ratio = draw_run(scenario, rng)
    (paired,) = summarise(differences[:, None], groups, num_resamples=NUM_RESAMPLES)
    test = corrected_t(trainings, ratio)
    _, low, high = superiority(trainings, scenario.num_folds)
    _, low_of_all, high_of_all = superiority(trainings, len(trainings))
    return {
        "claim rule": is_superior(paired.low, paired.high, test.p, test.difference),
        "corrected t": test.p < ALPHA,
        "plain t over trainings": float(ttest_1samp(trainings, 0).pvalue) < ALPHA,
        "Wilcoxon on groups": signed_rank_p(differences, groups) < ALPHA,
        "bootstrap over groups": not paired.low <= 0 <= paired.high,
        "P(A > B) excludes 0.5": not low <= 0.5 <= high,
        "P(A > B), every pair its own": not low_of_all <= 0.5 <= high_of_all,
        "variance": test.standard_deviation**2,
        "difference": test.difference,
        "ratio": ratio,
    }


def study_false_positives(scenario: Scenario, num_rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return the line of false positives of a scenario, and that of the power in it."""
    rng = np.random.default_rng(seed)
    rounds = pd.DataFrame([judge_run(scenario, rng) for _ in range(num_rounds)]).astype(float)
    facts = asdict(scenario) | {"rounds": num_rounds, "seed": seed}
    rates = rounds.drop(columns=["variance", "difference", "ratio"]).mean()
    return [
        {"study": "false positives", **facts, "rates": rates.round(4).to_dict()},
        {"study": "power", **facts, **_achieve_power(scenario, rounds)},
    ]


def judge_family(scenario: Scenario, num_models: int, rng: np.random.Generator) -> dict[str, bool]:
    """Draw a run of several models and note whether any pair is found to differ."""
    groups, scores, trainings, ratio = draw_models(scenario, num_models, rng)
    first, second = np.array(list(combinations(range(num_models), 2))).T
    # Two deviations of a pair's size each differ by as much again.
    differences = (scores[first] - scores[second]) / math.sqrt(2)
    tests = [corrected_t((trainings[i] - trainings[j]) / math.sqrt(2), ratio)
             for i, j in zip(first, second, strict=True)]  # fmt: skip
    intervals = summarise(differences.T, groups, num_resamples=NUM_RESAMPLES)
    p_values = [test.p for test in tests]
    found = {}
    for name, given in (("with Holm", holm(p_values)), ("without Holm", p_values)):
        found[f"any claim, {name}"] = any(
            is_superior(paired.low, paired.high, p, test.difference)
            for paired, test, p in zip(intervals, tests, given, strict=True)
        )
    return found | {"any bootstrap interval": any(not s.low <= 0 <= s.high for s in intervals)}


def study_family(scenario: Scenario, num_models: int, num_rounds: int, seed: int) -> dict[str, Any]:
    """Return the line of a scenario with several models."""
    rng = np.random.default_rng(seed)
    rounds = pd.DataFrame([judge_family(scenario, num_models, rng) for _ in range(num_rounds)])
    facts = asdict(scenario) | {"num_models": num_models, "rounds": num_rounds, "seed": seed}
    rates = rounds.astype(float).mean().round(4).to_dict()
    return {"study": "several models", **facts, "rates": rates}


def _achieve_power(scenario: Scenario, rounds: pd.DataFrame) -> dict[str, float]:
    """Move the same rounds by the difference that is detectable at the true spread."""
    number, ratio = scenario.num_folds * scenario.num_repeats, rounds["ratio"].mean()
    detectable = detectable_difference(math.sqrt(rounds["variance"].mean()), number, ratio)
    # A row's values are a sample with its mean and variance, which is all that the test uses.
    half = np.sqrt(rounds["variance"] * (number - 1) / number)
    found = [
        corrected_t(_sample(mean + detectable, spread, number), ratio).p < ALPHA
        for mean, spread in zip(rounds["difference"], half, strict=True)
    ]
    own = [detectable_difference(math.sqrt(v), number, ratio) for v in rounds["variance"][:200]]
    return {
        "detectable": round(detectable, 4),
        "achieved_power": round(float(np.mean(found)), 4),
        "detectable_by_a_run_p10": round(float(np.quantile(own, 0.1)), 4),
        "detectable_by_a_run_p90": round(float(np.quantile(own, 0.9)), 4),
    }


def _sample(mean: float, spread: float, number: int) -> Floats:
    """Return values with a mean and a population standard deviation."""
    steps = np.arange(number) - (number - 1) / 2
    sample: Floats = mean + spread * steps / steps.std()
    return sample


def study_means(num_rounds: int, seed: int) -> dict[str, Any]:
    """Cover the mean of skewed scores of one model by intervals over groups and over images."""
    rng = np.random.default_rng(seed)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    truth = float(weights @ _squash(1.5 + math.sqrt(2) * nodes) / weights.sum())
    covered = {"over groups": 0, "over images": 0}
    for _ in range(num_rounds):
        groups = draw_groups(rng)
        own = rng.normal(size=NUM_GROUPS)[groups] + rng.normal(size=len(groups))
        scores = _squash(1.5 + own)[:, None]
        for name, given in (("over groups", groups), ("over images", None)):
            (summary,) = summarise(scores, given, num_resamples=NUM_RESAMPLES)
            covered[name] += summary.low <= truth <= summary.high
    rates = {name: round(count / num_rounds, 4) for name, count in covered.items()}
    return {"study": "coverage", "of": f"bootstrap intervals of a mean of {truth:.3f}",
            "rounds": num_rounds, "seed": seed, "rates": rates}  # fmt: skip


def _squash(values: Floats) -> Floats:
    squashed: Floats = 1 / (1 + np.exp(-values))
    return squashed


def study_shares(share: float, num_images: int, num_rounds: int, seed: int) -> dict[str, Any]:
    """Cover a share by Wilson's interval: of outcomes, and of their means over three repeats."""
    rng = np.random.default_rng(seed)
    # Images differ in how likely their outcome is, as far as the share leaves room.
    chances = rng.beta(share * 2, (1 - share) * 2, size=(num_rounds, num_images))
    outcomes = rng.random((3, num_rounds, num_images)) < chances
    sums = {"one training": outcomes[0].sum(axis=1), "three repeats": outcomes.mean(axis=0).sum(1)}
    rates = {}
    for name, successes in sums.items():
        ends = np.array([wilson(count, num_images) for count in successes])
        rates[name] = round(float(np.mean((ends[:, 0] <= share) & (share <= ends[:, 1]))), 4)
    return {"study": "coverage", "of": f"Wilson intervals of a share of {share:g}, "
            f"{num_images} images", "rounds": num_rounds, "seed": seed, "rates": rates}  # fmt: skip


def to_page(lines: Sequence[dict[str, Any]]) -> str:
    """Write the lines as tables."""
    by_study = {
        study: [line for line in lines if line["study"] == study]
        for study in ("false positives", "several models", "coverage", "power")
    }
    rounds = min(line["rounds"] for line in lines)
    error = math.sqrt(0.05 * 0.95 / rounds)
    false = pd.DataFrame(_case(line) | line["rates"] for line in by_study["false positives"])
    families = pd.DataFrame(
        {"Models": line["num_models"]} | _case(line) | line["rates"]
        for line in by_study["several models"]
    )
    coverage = pd.DataFrame(
        {"Intervals": line["of"], "Case": name, "Covered": rate}
        for line in by_study["coverage"]
        for name, rate in line["rates"].items()
    )
    power = pd.DataFrame(
        _case(line)
        | {
            "Detectable": line["detectable"],
            "Achieved power": line["achieved_power"],
            "Detectable by a run's own spread": f"{line['detectable_by_a_run_p10']:.3f} to "
            f"{line['detectable_by_a_run_p90']:.3f}",
        }
        for line in by_study["power"]
    )
    paragraphs = [
        "# False positives, coverage and power in simulation",
        f"{rounds:,} rounds a case, so that a rate of 0.05 is known to ±{2 * error:.3f}. "
        "Made by `experiments/simulations/claims.py`, which says how.",
        "Share of runs in which two equal models are found to differ; the stated level is 0.05. "
        "One minus it is the coverage of the interval: the corrected t's, the bootstrap's, "
        "P(A > B)'s.",
        to_markdown(Table("", false, tuple(map(str, false))[3:])),
        "Share of runs of several equal models in which any pair is found to differ; the stated "
        "level is 0.05 for the run.",
        to_markdown(Table("", families, tuple(map(str, families))[4:])),
        "Share of 95 % intervals that hold the true value.",
        to_markdown(Table("", coverage, ("Covered",))),
        "The difference said to be detectable with a power of 0.8 at the true spread, the power of "
        "the corrected t test there, and what the middle 80 % of runs would say from their own "
        "spread.",
        to_markdown(Table("", power, ("Detectable", "Achieved power"))),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _case(line: dict[str, Any]) -> dict[str, Any]:
    return {"Trainings": line["name"], "Folds": line["num_folds"], "Repeats": line["num_repeats"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--rounds", type=int, default=1200, help="simulated runs per case")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.process_time()
    lines = []
    for number, scenario in enumerate(SCENARIOS):
        lines += study_false_positives(scenario, options.rounds, options.seed + number)
        print(json.dumps(lines[-2]), flush=True)
    for number, (num_models, scenario) in enumerate(FAMILIES, len(SCENARIOS)):
        lines.append(study_family(scenario, num_models, options.rounds, options.seed + number))
        print(json.dumps(lines[-1]), flush=True)
    lines.append(study_means(options.rounds, options.seed))
    for share in (0.02, 0.1, 0.6):
        lines.append(study_shares(share, 120, options.rounds, options.seed))
    options.out.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (options.out / "claims.jsonl").write_text(text)
    (options.out / "claims.md").write_text(to_page(lines))
    print(f"{time.process_time() - began:.0f} s of one core")


if __name__ == "__main__":
    main()
