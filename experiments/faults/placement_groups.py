"""Trainings of two workers, stopped as a pruner stops them: is every placement group given back?

python -m experiments.faults.placement_groups --out experiments/results/faults
python -m experiments.faults.placement_groups --load 2 --out experiments/results/faults
python -m experiments.faults.placement_groups --trainings 2           # about a minute

Each training is asked to stop after its first epoch, as a trial is that its pruner gives up; its
two ranks, processes of Ray Train in a placement group, agree on it and end. The epochs do nothing
but wait for each other. Counted are groups that are not removed afterwards, and CPUs that are not
free. `--load` starts so many processes beside it that compute without pause. With --out, a line is
added to placement_groups.jsonl, and placement_groups.md shows all lines. Run it in the checkout.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
from ray.util import placement_group_table

from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import connected
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import ListPlan, Training
from busi_tune.results.pages.tables import Table, to_markdown
from busi_tune.run_directory import write_atomic
from busi_tune.settings import override
from tests.orchestration.conftest import Notes, make_fit, run_cluster

NUM_WORKERS = 2
CPUS_PER_WORKER = 0.5
SECONDS_TO_GIVE_BACK = 60


class StoppingPlan(ListPlan):
    """Asks every training to stop after its first epoch."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Ask it."""
        return True


def stop_trainings(number: int, folder: Path) -> dict[str, Any]:
    """Run and stop trainings on the cluster of RAY_ADDRESS; what became of their groups."""
    config = override(Config(), {"training.epochs": 50, "resources.num_workers": NUM_WORKERS})
    trainings = [
        Training(f"training {i}", {"fold": i}, config, "only", folder / str(i))
        for i in range(number)
    ]

    def wait_for_each_other(*arguments: Any) -> None:
        import torch.distributed as dist

        dist.barrier()

    with connected():
        earlier = set(placement_group_table())
    notes, began = Notes(), time.monotonic()
    resources = ResourcesConfig(num_workers=NUM_WORKERS, cpus_per_worker=CPUS_PER_WORKER)
    blank, empty = np.zeros((1, 8, 8), np.uint8), np.arange(0)
    images = ImageSet(
        ("a",), ("benign",), ("a",), 8, "none", blank, blank,
        np.full((1, 2), 8, np.int32), np.zeros(8, np.uint8), np.array([0, 8]),
    )  # fmt: skip
    splits = {"only": Split(empty, empty, empty)}
    plan, fit = StoppingPlan(trainings), make_fit(wait_for_each_other)
    run_plan(plan, images, splits, resources, notes, fit)
    seconds = time.monotonic() - began
    with connected():
        left, busy = count_left()
        groups = len(set(placement_group_table()) - earlier)
    return {
        "trainings": number,
        "stopped": list(notes.ended.values()).count("pruned"),
        "groups": groups,
        "left": left,
        "busy_cpus": busy,
        "seconds_per_training": round(seconds / number, 1),
    }


def count_left() -> tuple[int, float]:
    """Count groups that are not removed and CPUs that are not free, giving them some time."""
    deadline = time.monotonic() + SECONDS_TO_GIVE_BACK
    while True:
        left = sum(group["state"] != "REMOVED" for group in placement_group_table().values())
        busy = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0)
        if (not left and not busy) or time.monotonic() >= deadline:
            return left, busy
        time.sleep(0.5)


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep so many processors busy."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def to_page(lines: list[dict[str, Any]]) -> str:
    """Show every line."""
    rows = [
        {
            "Busy processes beside": line["load"],
            "Trainings": line["trainings"],
            "Stopped after their first epoch": line["stopped"],
            "Placement groups": line["groups"],
            "Not given back": line["left"],
            "CPUs not free": line["busy_cpus"],
            "Seconds per training": line["seconds_per_training"],
        }
        for line in lines
    ]
    title = "# Placement groups of trainings that were stopped"
    text = (
        f"Trainings of {NUM_WORKERS} workers of {CPUS_PER_WORKER:g} CPUs, as many at a time as fit "
        f"on {lines[-1]['cpus']} CPUs. Made by `experiments/faults/placement_groups.py`."
    )
    return "\n\n".join([title, text, to_markdown(Table("", pd.DataFrame(rows)))]) + "\n"


def main() -> int:
    """Stop trainings, write what became of their groups; the exit code says if all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--load", type=int, default=0, help="busy processes beside it")
    parser.add_argument("--out", type=Path, help="folder of placement_groups.jsonl and .md")
    options = parser.parse_args()
    with (
        run_cluster() as address,
        busy_processes(options.load),
        tempfile.TemporaryDirectory(prefix="busi_tune-groups-") as folder,
    ):
        os.environ["RAY_ADDRESS"] = address
        line = {"load": options.load} | stop_trainings(options.trainings, Path(folder))
    line |= {"cpus": os.cpu_count(), "ray": ray.__version__}
    print(json.dumps(line))
    if options.out:
        path = options.out / "placement_groups.jsonl"
        before = path.read_text().splitlines() if path.exists() else []
        lines = [*before, json.dumps(line)]
        write_atomic(path, "\n".join(lines) + "\n")
        page = to_page([json.loads(each) for each in lines])
        write_atomic(path.with_suffix(".md"), page)
    whole = line["stopped"] == options.trainings <= line["groups"]
    return 0 if whole and not line["left"] and not line["busy_cpus"] else 1


if __name__ == "__main__":
    sys.exit(main())
