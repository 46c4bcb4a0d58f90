"""What a trial costs beside its training: seconds per trial when the training does nothing.

python experiments/benchmarks/trial_cost.py                 # about two minutes
python experiments/benchmarks/trial_cost.py --trials 32 --nested 6 --out results.jsonl

search  a search of this project: random sampler, SQLite study, two slots, one worker per training
nested  the documented pattern: a plain Tuner whose function runs a TorchTrainer of one worker

Each runs three epochs that do nothing. The first two trials, which start the workers, do not
count. One JSON line for both.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from lines import add_line
from ray import train, tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import connected
from busi_tune.orchestration.progress import Progress
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import Training
from busi_tune.search_space import compile_space
from busi_tune.settings import override
from busi_tune.study.storage import open_study
from busi_tune.study.trials import StudyPlan

EPOCHS = 3
SPACE = {"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}}


def fit(config: Any, images: Any, split: Any, folder: Path, on_epoch_end: Any) -> None:
    for epoch in range(1, EPOCHS + 1):
        on_epoch_end({"epoch": epoch, "val_dice": config.optimizer.lr})
    result = {"status": "finished", "best_epoch": EPOCHS, "best_value": config.optimizer.lr}
    (folder / "result.json").write_text(json.dumps(result | {"epochs": EPOCHS, "seconds": 0.0}))


def nothing_to_train() -> tuple[ImageSet, np.ndarray]:
    """Return a set of one image and no indices into it."""
    blank = np.zeros((1, 8, 8), np.uint8)
    images = ImageSet(
        ("a",), ("benign",), ("a",), 8, "none", blank, blank,
        np.full((1, 2), 8, np.int32), np.zeros(8, np.uint8), np.array([0, 8]),
    )  # fmt: skip
    return images, np.arange(0)


def time_search(folder: Path, num_trials: int) -> float:
    config = override(
        Config(),
        {
            "search.num_trials": num_trials,
            "search.sampler": "random",
            "search.pruner": "none",
            "training.epochs": EPOCHS,
        },
    )
    images, empty = nothing_to_train()
    ends: list[float] = []

    def place(number: int, settings: Mapping[str, Any]) -> list[Training]:
        identity = {"trial": number, "key": str(number)}
        resolved = override(config, settings)
        return [Training(f"trial {number}", identity, resolved, "none", folder / str(number))]

    with open_study(folder / "study.db", config) as study:
        space = compile_space(SPACE)
        plan = StudyPlan(study, config, space, place, lambda: ends.append(time.monotonic()))
        splits = {"none": Split(empty, empty, empty)}
        with Progress(config, plan.num_open) as bar:
            run_plan(plan, images, splits, ResourcesConfig(max_concurrent=2), bar, fit)
    return (ends[-1] - ends[1]) / (len(ends) - 2)


def time_nested(folder: Path, num_trials: int) -> float:
    def rank() -> None:
        for epoch in range(1, EPOCHS + 1):
            train.report({"epoch": epoch})

    def trial(settings: dict[str, Any]) -> None:
        TorchTrainer(
            rank,
            scaling_config=train.ScalingConfig(num_workers=1),
            run_config=train.RunConfig(
                name=f"trial-{settings['number']}",
                storage_path=str(folder),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()

    with connected():
        results = tune.Tuner(
            tune.with_resources(trial, {"memory": 1}),
            param_space={"number": tune.grid_search(list(range(num_trials)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=2),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
        ).fit()
        ends = sorted(result.metrics["timestamp"] for result in results)
    return (ends[-1] - ends[1]) / (len(ends) - 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--nested", type=int, default=6)
    parser.add_argument("--out", type=Path, help="file to which the line is appended")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "search").mkdir()
        search = time_search(Path(scratch) / "search", options.trials)
        nested = time_nested(Path(scratch) / "nested", options.nested)
    line = {
        "search_trials": options.trials,
        "search_seconds_per_trial": round(search, 3),
        "nested_trials": options.nested,
        "nested_seconds_per_trial": round(nested, 1),
        "ratio": round(nested / search),
    }
    add_line(line, options.out)


if __name__ == "__main__":
    main()
