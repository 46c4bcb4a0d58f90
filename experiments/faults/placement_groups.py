"""Trainings of two workers, stopped as a pruner stops them: is every placement group given back?

python -m experiments.faults.placement_groups --out experiments/results/faults
python -m experiments.faults.placement_groups --load 2 --out experiments/results/faults
python -m experiments.faults.placement_groups --trainings 2           # about a minute

Each training is asked to stop after its first epoch, as a trial is that its pruner gives up; its
two ranks, processes of Ray Train in a placement group, agree on it and end. The epochs do nothing
but wait for each other. Ray removes all groups of a driver that leaves, so they are looked at
while it lives: a group older than every training in progress belongs to none, and is counted if it
is still held a minute later, whether others train then or all have ended. At the end CPUs that are
not free are counted too. `--load` starts so many processes beside it that compute without pause.
With --out, a line is added to placement_groups.jsonl, and placement_groups.md shows all lines. Run
it in the checkout.
"""

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from busi_tune.plan import ListPlan, Outcome, Training
from busi_tune.results.pages.tables import Table, to_markdown
from busi_tune.run_directory import write_atomic
from busi_tune.settings import override
from experiments.benchmarks.lines import add_line
from tests.orchestration.conftest import Notes, make_fit, run_cluster

NUM_WORKERS = 2
CPUS_PER_WORKER = 0.5
SECONDS_TO_GIVE_BACK = 60


class Groups:
    """The placement groups made from now on, and how long those of no training are held.

    Of those with CPUs, which are the ranks'. The process that waits for them has one without, and
    takes one training after the other.
    """

    def __init__(self) -> None:
        self._earlier = set(placement_group_table())
        self.seen: dict[str, float] = {}
        """When each was seen first."""
        self._unneeded: dict[str, float] = {}
        """Since when each is older than every training in progress."""
        self.held: dict[str, float] = {}
        """Seconds for which each was held since then."""

    def look(self, begun: Collection[float]) -> int:
        """Look at all groups while the driver lives, and count those that belong to none.

        Args:
            begun: when the trainings in progress began.
        """
        now = time.monotonic()
        table = {
            key: group
            for key, group in placement_group_table().items()
            if key not in self._earlier and _has_cpus(group)
        }
        for key in table:
            self.seen.setdefault(key, now)
        oldest = min(begun, default=math.inf)
        unneeded = [
            key
            for key, group in table.items()
            if group["state"] != "REMOVED" and self.seen[key] < oldest
        ]
        for key in unneeded:
            self.held[key] = now - self._unneeded.setdefault(key, now)
        return len(unneeded)

    def count_left(self, seconds: float) -> tuple[int, float]:
        """Count groups of no training that were held for so long, and CPUs that are not free.

        Nothing trains any more; what is held still is given that time.
        """
        self.look([])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (self.look([]) or count_busy_cpus()):
            time.sleep(0.5)
        self.look([])
        return sum(held >= seconds for held in self.held.values()), count_busy_cpus()


def _has_cpus(group: dict[str, Any]) -> bool:
    return any("CPU" in bundle for bundle in group["bundles"].values())


def count_busy_cpus() -> float:
    """Count the CPUs of the cluster that something holds."""
    return float(ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0))


class StoppingPlan(ListPlan):
    """Asks every training to stop after its first epoch, and has groups looked at meanwhile."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        """Take the trainings; the driver has joined the cluster."""
        super().__init__(trainings)
        self.groups = Groups()
        self._begun: dict[str, float] = {}

    def num_open(self) -> int:
        """Look at the groups; Tune comes here several times a second."""
        self.groups.look(self._begun.values())
        return super().num_open()

    def next_training(self) -> Training | None:
        """Note when it begins."""
        training = super().next_training()
        if training is not None:
            self._begun[training.name] = time.monotonic()
        return training

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        """Ask it."""
        return True

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Note that it needs nothing any more."""
        super().on_end(training, outcome)
        del self._begun[training.name]


def stop_trainings(
    number: int,
    folder: Path,
    make_plan: Callable[[Sequence[Training]], StoppingPlan] = StoppingPlan,
    seconds: float = SECONDS_TO_GIVE_BACK,
) -> dict[str, Any]:
    """Run and stop trainings on the cluster of RAY_ADDRESS; what became of their groups."""
    config = override(Config(), {"training.epochs": 50, "resources.num_workers": NUM_WORKERS})
    trainings = [
        Training(f"training {i}", {"fold": i}, config, "only", folder / str(i))
        for i in range(number)
    ]

    def wait_for_each_other(*arguments: Any) -> None:
        import torch.distributed as dist

        dist.barrier()

    notes, began = Notes(), time.monotonic()
    resources = ResourcesConfig(num_workers=NUM_WORKERS, cpus_per_worker=CPUS_PER_WORKER)
    blank, empty = np.zeros((1, 8, 8), np.uint8), np.arange(0)
    images = ImageSet(
        ("a",), ("benign",), ("a",), 8, "none", blank, blank,
        np.full((1, 2), 8, np.int32), np.zeros(8, np.uint8), np.array([0, 8]),
    )  # fmt: skip
    splits = {"only": Split(empty, empty, empty)}
    with connected():  # outside of the run's own, so that the driver stays when the run has ended
        plan = make_plan(trainings)
        run_plan(plan, images, splits, resources, notes, make_fit(wait_for_each_other))
        seconds_per_training = (time.monotonic() - began) / number
        left, busy = plan.groups.count_left(seconds)
    return {
        "trainings": number,
        "stopped": list(notes.ended.values()).count("pruned"),
        "groups": len(plan.groups.seen),
        "longest_held": round(max(plan.groups.held.values(), default=0.0), 1),
        "left": left,
        "busy_cpus": busy,
        "seconds_per_training": round(seconds_per_training, 1),
    }


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
            "Held longest without need, s": line["longest_held"],
            "Not given back": line["left"],
            "CPUs not free at the end": line["busy_cpus"],
            "Seconds per training": line["seconds_per_training"],
        }
        for line in lines
    ]
    title = "# Placement groups of trainings that were stopped"
    text = (
        f"Trainings of {NUM_WORKERS} workers of {CPUS_PER_WORKER:g} CPUs, as many at a time as fit "
        f"on {lines[-1]['cpus']} CPUs. A group is not needed when all trainings that began before "
        f"it was there have ended; not given back is one that was held {SECONDS_TO_GIVE_BACK} s "
        "longer, while others trained or at the end, with the driver alive. Made by "
        "`experiments/faults/placement_groups.py`."
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
    path = options.out / "placement_groups.jsonl" if options.out else None
    lines = add_line(line, path)
    if path:
        write_atomic(path.with_suffix(".md"), to_page(lines))
    whole = line["stopped"] == options.trainings <= line["groups"]
    return 0 if whole and not line["left"] and not line["busy_cpus"] else 1


if __name__ == "__main__":
    sys.exit(main())
