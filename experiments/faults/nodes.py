"""Nodes lost under runs on several nodes, again and again: is anything lost or done twice?

python -m experiments.faults.nodes --times 5 --out experiments/results/faults
python -m experiments.faults.nodes --times 1                          # some minutes

A cluster of a head and a node runs a search of six trials or six folds; while it trains, a third
node joins, and is lost as soon as it is in the middle of a training: its raylet gets a SIGKILL, or
all its processes at once, or its network is cut (root only, and the node lives on). Or the head is
lost with the driver, and the search is resumed on another cluster. No failure of a training is
allowed (resources.max_failures 0), so that a run fails if a lost node counts as one.

Counted are trials or folds lost or double, trainings run again though they had a result, and
epochs run again though they were finished before the fault; the epoch under way is begun again.
Writes a table as CSV and Markdown. Run it in the checkout.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import ray

from busi_tune.results.pages.tables import Table, to_markdown
from busi_tune.run_directory import environment_record, write_atomic
from tests.cluster.broken_runs import NUM_TRAININGS, Outcome, lose_head, lose_node
from tests.cluster.nodes import Cluster, Node, run_cluster

NODE_FAULTS: dict[str, Callable[[Node], None]] = {
    "raylet of a node killed": Node.kill_raylet,
    "node killed at once": Node.kill,
    "network of a node cut": Node.cut,
}
HEAD_FAULT = "head and driver killed, run directory kept, resumed on another cluster"


def break_runs(times: int) -> Iterator[list[dict[str, Any]]]:
    """Bring every fault about so many times; all rows so far each time."""
    rows = list[dict[str, Any]]()
    for number in range(times):
        with run_cluster(2) as cluster:
            for command in ("search", "kfold"):
                for fault, act in NODE_FAULTS.items():
                    if act is Node.cut and not cluster.has_networks:
                        continue
                    rows.append(_row(fault, command, number, _lose_node, command, act, cluster))
                    yield rows
            rows.append(_row(HEAD_FAULT, "search", number, _lose_head, cluster))
            yield rows


def _lose_node(command: str, act: Callable[[Node], None], cluster: Cluster, to: Path) -> Outcome:
    return lose_node(command, act, cluster, to)[0]


def _lose_head(cluster: Cluster, to: Path) -> Outcome:
    with run_cluster(1) as other:
        return lose_head(cluster, other, to)[0]


def _row(
    fault: str, command: str, number: int, run: Callable[..., Outcome], *arguments: Any
) -> dict[str, Any]:
    began = time.monotonic()
    row: dict[str, Any] = {"fault": fault, "command": command, "time": number}
    with tempfile.TemporaryDirectory(prefix="busi_tune-nodes-") as folder:
        try:
            outcome = run(*arguments, Path(folder))
        except AssertionError as error:  # a run that broke off or did not end counts as one
            log = Path(folder) / "log"
            said = log.read_text()[-2000:] if log.exists() else ""
            row |= {"whole": False, "named": 0, "why": f"{error}\n{said}"}
        else:
            row |= asdict(outcome) | {"whole": outcome.is_whole}
    row["seconds"] = round(time.monotonic() - began, 1)
    print(row, flush=True)
    return row


def to_page(rows: pd.DataFrame) -> str:
    """Sum the faults up by kind."""
    summed = [
        {
            "Fault": fault,
            "Under": command,
            "Times": len(each),
            "Broken off": int((each["named"] == 0).sum()),
            "Trials or folds lost or double": int((NUM_TRAININGS - each["named"]).abs().sum()),
            "Run again though finished": int(each["run_again"].sum()),
            "Finished epochs run again": int(each["epochs_again"].sum()),
            "Trainings that moved": int(each["moved"].sum()),
            "Seconds, median": round(float(each["seconds"].median()), 1),
        }
        for (fault, command), each in rows.groupby(["fault", "command"], sort=False)
    ]
    title = f"# {len(rows)} runs that lost a node or the head"
    text = (
        f"Runs of {NUM_TRAININGS} trainings on nodes of one CPU each, all on one machine of "
        f"{os.cpu_count()} CPUs, Ray {ray.__version__}. A node that is lost is the third, which "
        "joined the run; the head is lost, with the driver, from a cluster of two. The epoch "
        "under way at the fault is begun again and not counted. Made by "
        "`experiments/faults/nodes.py`."
    )
    return "\n\n".join([title, text, to_markdown(Table("", pd.DataFrame(summed)))]) + "\n"


def main() -> int:
    """Lose nodes, write what became of the runs, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5, help="of each fault under each command")
    parser.add_argument("--out", type=Path, help="folder of nodes.csv and nodes.md")
    options = parser.parse_args()
    record = environment_record("nodes", "", 0)
    named = {"date": record["time"], "commit": record["commit"], "processor": record["processor"]}
    rows = pd.DataFrame()
    for each in break_runs(options.times):
        rows = pd.DataFrame(each).assign(**named, ray=ray.__version__)
        if options.out:
            write_atomic(options.out / "nodes.csv", rows.to_csv(index=False))
            write_atomic(options.out / "nodes.md", to_page(rows))
    return 0 if rows["whole"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
