"""Runs on several nodes that are broken in the middle, and what became of them."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
import psutil
import pytest

from tests.cluster.nodes import Cluster, Node
from tests.faults.runs import Done, results
from tests.processes import TINY, end_what_is_left, kill, start, wait_for_end, wait_until

NUM_TRAININGS = 6
EPOCHS = 10
"""So many that one can be stopped in the middle, see `_is_training_on`."""
# A lost node is no failure of a training, so none is allowed here.
SETTINGS = [*TINY, f"--training.epochs={EPOCHS}", "--resources.max_failures=0"]
COMMANDS = {
    "search": [
        *SETTINGS, f"--search.num_trials={NUM_TRAININGS}", "--search.refit=0",
        "--search.pruner=none", "--search.sampler=random", "--search.start=[]",
    ],
    "kfold": [
        *SETTINGS, "--kfold.num_folds=3", f"--kfold.num_repeats={NUM_TRAININGS // 3}",
        "--kfold.models={}",
    ],
}  # fmt: skip
WAIT_SECONDS = 400
"""For what takes some seconds, on a loaded machine too."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run: nothing may be lost, double or repeated."""

    finished: int
    """Trainings with a result and with every epoch once."""
    named: int
    """Trials or folds in the table, each once."""
    run_again: int
    """Trainings that wrote their result anew though they had one."""
    epochs_again: int
    """Epochs run again that were finished before the fault; the one under way does not count."""
    moved: int
    """Trainings that were interrupted and went on elsewhere."""
    places: int
    """Nodes that trained."""

    @property
    def is_whole(self) -> bool:
        """Whether all is well."""
        whole = self.finished == self.named == NUM_TRAININGS
        return whole and not self.run_again and not self.epochs_again


def lose_node(
    command: str, fault: Callable[[Node], None], cluster: Cluster, folder: Path
) -> tuple[Outcome, str]:
    """Run a command, have a node join it and lose that node while it trains.

    Each node's training stands still from its middle until then, so that there is something left to
    train on the next, and the fault comes in the middle.

    Returns:
        What became of the run, and what it said.
    """
    log = folder / "log"
    with inside(cluster), _Stopped(folder / "storage") as stopped:
        driver = _begin(command, cluster, folder)
        stopped.wait_for(cluster.living())
        third = cluster.add()
        stopped.wait_for([third])
        before = Done.of(folder / "storage")
        fault(third)
        stopped.go_on()
        wait_for_end(driver, log, WAIT_SECONDS)
        third.kill()  # one that was cut off lives on, and the next run would wait for it
    return _compare(command, folder, before), log.read_text()


def run_whole(command: str, cluster: Cluster, folder: Path) -> tuple[Outcome, str]:
    """Run a command to its end without a fault."""
    log = folder / "log"
    with inside(cluster):
        wait_for_end(_begin(command, cluster, folder), log, WAIT_SECONDS)
    return _compare(command, folder, Done({}, {})), log.read_text()


def lose_head(cluster: Cluster, other: Cluster, folder: Path) -> tuple[Outcome, str]:
    """Run a search, lose the head with its driver, and resume it on another cluster."""
    log, storage = folder / "log", folder / "storage"
    with inside(cluster):
        driver = _begin("search", cluster, folder)
        wait_until(lambda: len(results(storage)) >= 2, "the second result", WAIT_SECONDS)
        kill(driver)
        cluster.nodes[0].kill()
    before = Done.of(storage)
    assert len(before.results) < NUM_TRAININGS, "the search was over already"
    with inside(other):
        again = start("search", [f"--resume={folder / 'run'}"], log, other.address)
        wait_for_end(again, log, WAIT_SECONDS)
    return _compare("search", folder, before), log.read_text()


@contextlib.contextmanager
def inside(cluster: Cluster) -> Iterator[None]:
    """Make commands find the cluster and its token, and end them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        try:
            yield
        finally:
            end_what_is_left()


class _Stopped:
    """Trainings that stand still in their middle."""

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._processes: dict[str, list[psutil.Process]] = {}

    def __enter__(self) -> "_Stopped":
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()

    def wait_for(self, nodes: Sequence[Node]) -> None:
        """Wait until each of these nodes has one."""
        wait_until(
            lambda: all([self._stops_on(node) for node in nodes]),
            "the middle of a training on every node",
            WAIT_SECONDS,
        )

    def _stops_on(self, node: Node) -> bool:
        if node.address in self._processes:
            return True
        if not _is_training_on(node, self._storage):
            return False
        processes = node.trainings()
        _send(processes, signal.SIGSTOP)
        if processes and _is_training_on(node, self._storage):
            self._processes[node.address] = processes
            return True
        _send(processes, signal.SIGCONT)  # it came to its end meanwhile, or stood between two
        return False

    def go_on(self) -> None:
        """Let all go on that are still there."""
        for processes in self._processes.values():
            _send(processes, signal.SIGCONT)
        self._processes.clear()


def _send(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _begin(command: str, cluster: Cluster, folder: Path) -> "subprocess.Popen[bytes]":
    places = [f"--run_dir={folder / 'run'}", f"--storage={folder / 'storage'}"]
    return start(command, [*COMMANDS[command], *places], folder / "log", cluster.address)


def _is_training_on(node: Node, storage: Path) -> bool:
    """Whether a node is in the middle of a training."""
    seen, there = Done.of(storage), _starts(storage)
    return any(
        key not in seen.results and 0 < seen.num_epochs(key) < EPOCHS - 2
        for key in there.loc[there["address"] == node.address, "key"]
    )


def _starts(storage: Path) -> pd.DataFrame:
    """Every start of every training: its key, where it ran, after which epoch."""
    files = sorted(storage.glob("trainings/*/starts.csv"))
    # One that is being made may be empty still.
    begun = [file for file in files if file.stat().st_size]
    tables = [pd.read_csv(file).assign(key=file.parent.name) for file in begun]
    return pd.concat(tables) if tables else pd.DataFrame(columns=["key", "address"])


def _compare(command: str, folder: Path, before: Done) -> Outcome:
    storage = folder / "storage"
    after, starts = Done.of(storage), _starts(storage)
    # A result that the lost driver had not told of is taken from its folder by a further start.
    again = starts[starts.duplicated("key") & ~starts["key"].isin(before.results)]
    return Outcome(
        finished=sum(after.num_epochs(key) == EPOCHS for key in after.results),
        named=_count_named(command, folder / "run"),
        **before.count_again(after),
        moved=again["key"].nunique(),
        places=starts["address"].nunique(),
    )


def _count_named(command: str, run_dir: Path) -> int:
    """Count the rows of the run's table, less those that are double or open in the study."""
    if command == "kfold":
        return len(pd.read_csv(run_dir / "folds.csv")[["repeat", "fold"]].drop_duplicates())
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run_dir / 'study.db'}")
    complete = sum(trial.state.name == "COMPLETE" for trial in study.trials)
    return min(complete, pd.read_csv(run_dir / "trials.csv")["trial"].nunique())
