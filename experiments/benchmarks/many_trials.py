"""What a long search costs: seconds per trial and the driver's memory over 300 trials.

python experiments/benchmarks/many_trials.py                    # about three minutes
python experiments/benchmarks/many_trials.py --trials 60 --out results.jsonl

Trainings that do nothing, over the demonstration's space of five settings, two of them conditional;
two slots, each kind in a process of its own:

random  a search of this project with all that it writes after each trial, random sampler
tpe     the same with TPE, whose model of the space grows with the trials
plain   a Tuner with Ray's OptunaSearch (random sampler) and ASHA: no state on disk to go on from

`first` and `last` are the seconds per trial of the first and last fifty (a sixth of the trials,
where there are fewer than 300), the two that start the workers apart; `kilobytes_per_trial` is what
the driver's resident memory grew by after these first fifty. One JSON line for all.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import psutil
from lines import add_line
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from trial_cost import EPOCHS, fit, nothing_to_train

from busi_tune.command_line import DEMO
from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.splits import Split
from busi_tune.flags import load_settings
from busi_tune.jobs.disk import remove_lost_checkpoints
from busi_tune.orchestration.cluster import connected
from busi_tune.orchestration.progress import Progress
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import Training
from busi_tune.search_dimension import Dimension
from busi_tune.search_space import compile_space, sample
from busi_tune.settings import override
from busi_tune.study.storage import copy_study, open_study
from busi_tune.study.tables import TrialsExport
from busi_tune.study.trials import StudyPlan

KINDS = ("random", "tpe", "plain")
NUM_COMPARED = 50


class Marks:
    """When each trial ended, and the driver's memory then."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.bytes: list[int] = []

    def set(self) -> None:
        """Mark the end of a trial."""
        self.times.append(time.monotonic())
        self.bytes.append(psutil.Process().memory_info().rss)

    def summarise(self) -> dict[str, float]:
        """Return what a trial took, at the beginning and at the end, and what it left behind."""
        num = min(NUM_COMPARED, len(self.times) // 6)
        times, memory = self.times[1:], self.bytes[1:]
        last = len(times) - 1
        return {
            "seconds_per_trial": round((times[-1] - times[0]) / last, 3),
            "first": round((times[num] - times[0]) / num, 3),
            "last": round((times[-1] - times[-1 - num]) / num, 3),
            "kilobytes_per_trial": round((memory[-1] - memory[num]) / (last - num) / 1000, 1),
        }


@functools.cache
def demo_space() -> list[Dimension]:
    return compile_space(load_settings(DEMO)["search.space"])


def run_search(folder: Path, num_trials: int, sampler: str, marks: Marks) -> None:
    config = override(
        Config(),
        {
            "search.num_trials": num_trials,
            "search.sampler": sampler,
            "search.pruner": "halving",
            "training.epochs": EPOCHS,
        },
    )
    path, space = folder / "study.db", demo_space()

    def place(number: int, settings: Mapping[str, Any]) -> list[Training]:
        identity = {"trial": number, "key": str(number)}
        resolved = override(config, settings)
        return [Training(f"trial {number}", identity, resolved, "none", folder / str(number))]

    settled: set[str] = set()
    with open_study(path, config) as study:
        table = TrialsExport(study, space, folder)

        def after_trial() -> None:
            table.write_if_due()
            copy_study(path)
            remove_lost_checkpoints(study, config, folder, settled)
            marks.set()

        plan = StudyPlan(study, config, space, place, after_trial)
        images, empty = nothing_to_train()
        with Progress(config, plan.num_open) as bar:
            splits = {"none": Split(empty, empty, empty)}
            run_plan(plan, images, splits, ResourcesConfig(max_concurrent=2), bar, fit)


def suggest(trial: optuna.Trial) -> None:
    sample(demo_space(), trial)


def run_plain(folder: Path, num_trials: int, marks: Marks) -> None:
    def train(settings: dict[str, Any]) -> None:
        for epoch in range(1, EPOCHS + 1):
            tune.report({"epoch": epoch, "val_dice": settings["optimizer.lr"]})

    class Marked(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            marks.set()

    searcher = OptunaSearch(
        suggest, metric="val_dice", mode="max", sampler=optuna.samplers.RandomSampler(0)
    )
    with connected():
        tune.Tuner(
            train,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=ASHAScheduler(
                    time_attr="epoch", metric="val_dice", mode="max", max_t=EPOCHS + 1
                ),
                num_samples=num_trials,
                max_concurrent_trials=2,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[Marked()]),
        ).fit()


def measure(kind: str, num_trials: int) -> dict[str, float]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    marks = Marks()
    with tempfile.TemporaryDirectory() as scratch:
        if kind == "plain":
            run_plain(Path(scratch), num_trials, marks)
        else:
            run_search(Path(scratch), num_trials, kind, marks)
    return marks.summarise()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--only", choices=KINDS, help="measure one kind in this process")
    parser.add_argument("--out", type=Path, help="file to which the line is appended")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.trials)))
        return
    line: dict[str, Any] = {"trials": options.trials}
    for kind in KINDS:
        command = [sys.executable, __file__, "--only", kind, "--trials", str(options.trials)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        line[kind] = json.loads(output.splitlines()[-1])
    add_line(line, options.out)


if __name__ == "__main__":
    main()
