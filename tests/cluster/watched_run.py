"""A run to be watched, in a process of its own: three trainings end, the fourth waits to be let go.

python -m tests.cluster.watched_run FOLDER starts a cluster, tells where it can be
watched in FOLDER/told.json, and goes on once there is FOLDER/go.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.plan import ListPlan, Training
from busi_tune.settings import override
from tests.processes import wait_until

RUN = "run-1"
REPORT_SECONDS = 1
"""How often Ray reports its metrics here."""
START_SECONDS = 300
"""Far beyond what a start takes on an idle machine."""


@dataclass(frozen=True)
class Watched:
    """A run under way."""

    dashboard: str
    """Address of the dashboard, http://host:port."""
    metrics: list[str]
    """Where each node tells its metrics."""
    token: str


@contextlib.contextmanager
def watch(folder: Path) -> Iterator[Watched]:
    """Start the run, wait for its last training, and let it end on leaving."""
    # Below the folder of a test the names of Ray's sockets would be too long.
    with (
        tempfile.TemporaryDirectory(prefix="watched-", ignore_cleanup_errors=True) as short,
        (folder / "log").open("w") as log,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.watched_run", str(folder)],
            cwd=Path(__file__).parents[2],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {"RAY_ADDRESS": "", "RAY_TMPDIR": short, "HOME": str(folder)}
            | {"RAY_metrics_report_interval_ms": str(1000 * REPORT_SECONDS)}
            # Ray's own 60 s are not enough for its dashboard on a busy machine.
            | {"RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_SECONDS)},
        )
        try:
            told = folder / "told.json"
            wait_until(
                lambda: told.exists() or process.poll() is not None, "a start", START_SECONDS
            )
            assert told.exists(), (folder / "log").read_text()
            content = json.loads(told.read_text())
            token = (folder / ".ray" / "auth_token").read_text().strip()
            yield Watched(content["dashboard"], content["metrics"], token)
        finally:
            (folder / "go").touch()
            try:
                process.wait(START_SECONDS)
            finally:
                process.kill()
        assert process.returncode == 0, (folder / "log").read_text()


class PruningPlan(ListPlan):
    """Stops the second training after its first epoch."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        return training.name == "trial 1"


def make_fit() -> Callable[..., None]:
    """Return a stand-in for `fit`; nested, so that it travels to the workers by value."""

    def fit(config: Any, images: Any, split: Any, folder: Any, on_epoch_end: Any) -> None:
        import json
        import time

        status, go = "finished", folder.parents[2] / "go"
        for epoch in range(1, 4):
            row = {"epoch": epoch, "val_dice": epoch / 4, "images_per_second": 25.0 * epoch}
            if on_epoch_end(row):
                status = "pruned"
                break
            if folder.name == "2":
                raise FloatingPointError("the loss is nan")
            deadline = time.monotonic() + 600
            while folder.name == "3" and not go.exists():
                assert time.monotonic() < deadline, "nobody let it go"
                time.sleep(0.05)
        result = {"status": status, "best_epoch": epoch, "best_value": epoch / 4, "epochs": epoch}
        (folder / "result.json").write_text(json.dumps(result | {"seconds": 0.0}))

    return fit


def make_images() -> ImageSet:
    """One image of 8 x 8 pixels."""
    empty = np.zeros((1, 8, 8), np.uint8)
    sizes, packed = np.full((1, 2), 8, np.int32), np.zeros(8, np.uint8)
    offsets = np.array([0, 8])
    return ImageSet(("a",), ("benign",), ("a",), 8, "hash", empty, empty, sizes, packed, offsets)


def tell_where(folder: Path) -> None:
    """Write down where to watch, once the last training has begun."""
    import ray

    deadline = time.monotonic() + START_SECONDS
    while not (folder / RUN / "trainings" / "3").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    url = ray._private.worker.get_dashboard_url()
    ports = [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
    ]
    partial = folder / "told.partial"
    partial.write_text(json.dumps({"dashboard": f"http://{url}", "metrics": ports}))
    partial.rename(folder / "told.json")


def main(folder: Path) -> None:
    """Run the trainings one after the other."""
    from busi_tune.orchestration.metrics import Metrics
    from busi_tune.orchestration.tuning import run_plan

    config = override(Config(), {"training.epochs": 3})
    trainings = [
        Training(f"trial {i}", {"trial": i}, config, "only", folder / RUN / "trainings" / f"{i}")
        for i in range(4)
    ]
    threading.Thread(target=tell_where, args=(folder,), daemon=True).start()
    nothing = np.zeros(0, dtype=np.int64)
    with Metrics(config, RUN, repeat_seconds=REPORT_SECONDS / 2) as metrics:
        run_plan(
            PruningPlan(trainings),
            make_images(),
            {"only": Split(np.array([0]), nothing, nothing)},
            ResourcesConfig(max_concurrent=1),
            metrics,
            make_fit(),
            name=RUN,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
