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
With --out, a line of each is added to nodes.jsonl, and nodes.md sums all lines up. Run it in the
checkout.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from busi_tune.results.pages.tables import Table, to_markdown
from busi_tune.run_directory import write_atomic
from experiments.benchmarks.lines import add_line
from tests.cluster.broken_runs import NUM_TRAININGS, Outcome, lose_head, lose_node
from tests.cluster.nodes import Cluster, Node, run_cluster

NODE_FAULTS: dict[str, Callable[[Node], None]] = {
    "raylet of a node killed": Node.kill_raylet,
    "node killed at once": Node.kill,
    "network of a node cut": Node.cut,
}
HEAD_FAULT = "head and driver killed, run directory kept, resumed on another cluster"


def break_runs(times: int) -> Iterator[dict[str, Any]]:
    """Bring every fault about so many times; what became of each run."""
    for _ in range(times):
        with run_cluster(2) as cluster:
            for command in ("search", "kfold"):
                for fault, act in NODE_FAULTS.items():
                    if act is Node.cut and not cluster.has_networks:
                        continue
                    yield _break_run(fault, command, _lose_node, command, act, cluster)
            yield _break_run(HEAD_FAULT, "search", _lose_head, cluster)


def _lose_node(command: str, act: Callable[[Node], None], cluster: Cluster, to: Path) -> Outcome:
    return lose_node(command, act, cluster, to)[0]


def _lose_head(cluster: Cluster, to: Path) -> Outcome:
    with run_cluster(1) as other:
        return lose_head(cluster, other, to)[0]


def _break_run(
    fault: str, under: str, run: Callable[..., Outcome], *arguments: Any
) -> dict[str, Any]:
    began = time.monotonic()
    row: dict[str, Any] = {"fault": fault, "under": under}
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
    return row


def to_page(lines: Sequence[Mapping[str, Any]]) -> str:
    """Sum the faults up by kind."""
    runs = pd.DataFrame(lines)
    summed = [
        {
            "Fault": fault,
            "Under": under,
            "Times": len(each),
            "Broken off": int((each["named"] == 0).sum()),
            "Trials or folds lost or double": int((NUM_TRAININGS - each["named"]).abs().sum()),
            "Run again though finished": int(each["run_again"].sum()),
            "Finished epochs run again": int(each["epochs_again"].sum()),
            "Trainings that moved": int(each["moved"].sum()),
            "Seconds, median": round(float(each["seconds"].median()), 1),
        }
        for (fault, under), each in runs.groupby(["fault", "under"], sort=False)
    ]
    title = f"# {len(runs)} runs that lost a node or the head"
    text = (
        f"Runs of {NUM_TRAININGS} trainings on nodes of one CPU each, all on one machine of "
        f"{lines[-1]['cpus']} CPUs, Ray {lines[-1]['ray']}. A node that is lost is the third, "
        "which joined the run; the head is lost, with the driver, from a cluster of two. The epoch "
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
    parser.add_argument("--out", type=Path, help="folder of nodes.jsonl and nodes.md")
    options = parser.parse_args()
    path, whole = options.out / "nodes.jsonl" if options.out else None, True
    for row in break_runs(options.times):
        lines = add_line(row, path)
        if path:
            write_atomic(path.with_suffix(".md"), to_page(lines))
        whole &= row["whole"]
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
