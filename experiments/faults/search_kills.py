"""A search whose driver is killed at random moments, against the same search unbroken.

python -m experiments.faults.search_kills --kills 20 --out experiments/results/faults
python -m experiments.faults.search_kills --kills 2                     # a few minutes

A search of twelve trials (TPE, halving, one refit) on synthetic images, one slot, so that every
decision is determined. It is run once unbroken. Then it is started again, gets a SIGKILL after a
time drawn between 0 and 0.7 of what the unbroken one took, and goes on by --resume, as often as it
is not at its end before; kills that are left go to a search of the next seed.

Counted is, per search: trainings that had a result before a kill and were run again, epochs that
were in their training's epochs.csv before a kill and were run again (told by the time they took;
the one under way at the kill is not among them), trials that are missing or double, trials left
RUNNING in study.db, and files (the tables of trials, refits, epochs and images, best.yaml,
closed_test.json) with any difference but times. All should be 0. Measured are the seconds that what
a killed driver had started lived on, the most of all kills. Writes a JSON line, and a table in
Markdown. Run it in the checkout.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
from optuna.trial import TrialState

from busi_tune.results.pages.tables import Table, to_markdown
from busi_tune.run_directory import write_atomic
from experiments.benchmarks.lines import add_line
from tests.faults.runs import Done, results
from tests.processes import kill

NUM_TRIALS = 12
LATEST = 0.7
SETTINGS = [
    "--data.phantom_images=40", "--data.image_size=32", "--training.batch_size=8",
    "--training.epochs=4", f"--search.num_trials={NUM_TRIALS}", "--search.min_epochs=2",
    "--search.refit=1", "--search.refit_seeds=1", "--resources.max_concurrent=1",
]  # fmt: skip
TABLES = ("trials.csv", "refits.csv", "epochs.csv", "images.csv")
TEXTS = ("best.yaml", "closed_test.json")
CLOCK = ["seconds", "images_per_second", "milliseconds_per_image"]
LONGEST_LIFE = 300.0
"""Seconds for which what a killed driver had started is watched."""
_watchers = ThreadPoolExecutor()


def start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a search on a cluster of its own."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "busi_tune.search", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"RAY_ADDRESS": ""},
        )


def run(arguments: Sequence[str], log: Path) -> float:
    """Run a search to its end; the seconds that it took."""
    began = time.monotonic()
    if start(arguments, log).wait():
        raise RuntimeError(f"the search failed:\n{log.read_text()}")
    return time.monotonic() - began


def break_search(seed: int, num_kills: int, folder: Path) -> dict[str, Any]:
    """Kill a search up to so many times; what it came to, beside the unbroken one."""
    chance, log = random.Random(seed), folder / "log"
    settings, run_dir, whole = [*SETTINGS, f"--seed={seed}"], folder / "run", folder / "whole"
    seconds = run([*settings, f"--run_dir={whole}"], log)
    kills, lives = list[str](), list[Future[float]]()
    again = Counter(Done({}, {}).count_again(Done({}, {})))
    while len(kills) < num_kills:
        before = Done.of(run_dir)
        begun = (run_dir / "config.yaml").exists()
        line = [f"--resume={run_dir}"] if begun else [*settings, f"--run_dir={run_dir}"]
        driver, moment = start(line, log), chance.uniform(0, LATEST * seconds)
        try:
            if driver.wait(moment):
                raise RuntimeError(f"the search failed:\n{log.read_text()}")
            break
        except subprocess.TimeoutExpired:
            lives.append(_watchers.submit(outlive, kill(driver)))
        again.update(before.count_again(Done.of(run_dir)))
        kills.append(f"{moment:.1f} s: {len(results(run_dir))}")
    before = Done.of(run_dir)
    run([f"--resume={run_dir}"] if run_dir.exists() else [*settings, f"--run_dir={run_dir}"], log)
    again.update(before.count_again(Done.of(run_dir)))
    longest = round(max((life.result() for life in lives), default=0.0), 1)
    return {"seed": seed, "seconds": round(seconds, 1), "kills": kills, **again} | (
        {"seconds_alive_after_a_kill": longest} | compare(run_dir, whole)
    )


def outlive(started: list[psutil.Process]) -> float:
    """Wait until nothing of what a killed driver had started lives; the seconds."""
    began = time.monotonic()
    psutil.wait_procs(started, timeout=LONGEST_LIFE)
    return time.monotonic() - began


def compare(run_dir: Path, whole: Path) -> dict[str, int]:
    """Count trials that are missing, double or RUNNING, and tables that differ."""
    numbers = pd.read_csv(run_dir / "trials.csv")["trial"].tolist()
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run_dir / 'study.db'}")
    pairs = [(read_table(run_dir / name), read_table(whole / name)) for name in TABLES]
    texts = [[(place / name).read_text() for name in TEXTS] for place in (run_dir, whole)]
    return {
        "lost_or_double": len(set(range(NUM_TRIALS)) ^ set(numbers))
        + len(numbers)
        - len(set(numbers)),
        "running": len(study.get_trials(states=[TrialState.RUNNING])),
        "differing_tables": sum(not broken.equals(unbroken) for broken, unbroken in pairs)
        + sum(broken != unbroken for broken, unbroken in zip(*texts, strict=True)),
    }


def read_table(path: Path) -> pd.DataFrame:
    """Read a table without what a clock measured."""
    return pd.read_csv(path).drop(columns=CLOCK, errors="ignore")


def to_page(searches: Sequence[dict[str, Any]]) -> str:
    """Show what became of each search."""
    rows = [
        {
            "Seed": each["seed"],
            "Killed after: trainings finished by then": "; ".join(each["kills"]),
            "Run again though finished": each["run_again"],
            "Finished epochs run again": each["epochs_again"],
            "Trials lost or double": each["lost_or_double"],
            "Left RUNNING": each["running"],
            "Files that differ": each["differing_tables"],
            "Last process gone after, s": each["seconds_alive_after_a_kill"],
        }
        for each in searches
    ]
    kills = sum(len(each["kills"]) for each in searches)
    title = f"# {kills} random SIGKILLs of a search's driver"
    text = (
        f"Each search has {NUM_TRIALS} trials and a refit, and is compared with the same search "
        "unbroken, in all but times. Seconds are since the start that was killed. Made by "
        "`experiments/faults/search_kills.py`."
    )
    return "\n\n".join([title, text, to_markdown(Table("", pd.DataFrame(rows)))]) + "\n"


def main() -> int:
    """Kill searches, write what became of them, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder of search_kills.jsonl and .md")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searches: list[dict[str, Any]] = []
    left, load = options.kills, round(os.getloadavg()[0], 1)
    while left > 0:
        with tempfile.TemporaryDirectory(prefix="busi_tune-kills-") as folder:
            searches.append(break_search(len(searches), left, Path(folder)))
        left -= len(searches[-1]["kills"])
        print(json.dumps(searches[-1]), flush=True)
    counted = ("run_again", "epochs_again", "lost_or_double", "running", "differing_tables")
    totals = {name: sum(each[name] for each in searches) for name in counted}
    line = {"kills": options.kills, "searches": searches, **totals, "load_before": load}
    path = options.out / "search_kills.jsonl" if options.out else None
    lines = add_line(line, path)
    if path:
        write_atomic(
            path.with_suffix(".md"), to_page([each for one in lines for each in one["searches"]])
        )
    print(json.dumps(totals))
    return 1 if any(totals.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
