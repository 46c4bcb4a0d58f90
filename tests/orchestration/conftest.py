"""A Ray cluster that the tests of this folder share, and trainings that cost nothing."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.cluster import connected
from busi_tune.plan import Training
from busi_tune.settings import override

Make = Callable[..., list[Training]]
Splits = dict[str, Split]

_CLUSTER = """
import sys, ray
from busi_tune.orchestration.cluster import connected
with connected():
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def run_cluster() -> Iterator[str]:
    """Run a local cluster in a process of its own and give its address."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=os.environ | {"RAY_ADDRESS": ""},
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            said.seek(0)
            assert address, f"the cluster did not start:\n{said.read()}"
            yield address
        finally:
            process.stdin.close()
            process.stdout.close()
            try:
                process.wait(300)
            finally:
                process.kill()


@pytest.fixture(scope="session")
def cluster_address() -> Iterator[str]:
    """The cluster of this folder's tests."""
    with run_cluster() as address:
        yield address


@pytest.fixture
def cluster(cluster_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make what runs in this test join the shared cluster."""
    monkeypatch.setenv("RAY_ADDRESS", cluster_address)
    return cluster_address


class _Holder:
    """Something else that runs on the cluster."""

    def hold(self) -> None:
        """Be there."""


@contextlib.contextmanager
def held(num_cpus: float | None = None) -> Iterator[int]:
    """Hold CPUs of the shared cluster, by default all; gives how many it has."""
    with connected():
        all_cpus = int(ray.cluster_resources()["CPU"])
        options: dict[str, Any] = {"lifetime": "detached", "name": "holder", "namespace": "test"}
        remote = ray.remote(num_cpus=num_cpus or all_cpus, **options)(_Holder)
        ray.get(remote.remote().hold.remote())
    try:
        yield all_cpus
    finally:
        with connected():
            ray.kill(ray.get_actor("holder", namespace="test"))


def config_with(**settings: Any) -> Config:
    """Three epochs, and what else is named, with two underscores for each dot."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return override(Config(), {"training.epochs": 3} | named)


@pytest.fixture
def images() -> ImageSet:
    """Four images of 8 x 8 pixels."""
    return ImageSet(
        names=("a", "b", "c", "d"),
        labels=("benign",) * 4,
        groups=("a", "b", "c", "d"),
        image_size=8,
        data_hash="hash",
        images=np.zeros((4, 8, 8), np.uint8),
        masks=np.zeros((4, 8, 8), np.uint8),
        sizes=np.full((4, 2), 8, np.int32),
        packed_masks=np.zeros(32, np.uint8),
        offsets=np.arange(5, dtype=np.int64) * 8,
    )


@pytest.fixture
def splits() -> dict[str, Split]:
    """One split of the four images."""
    return {"only": Split(np.array([0, 1]), np.array([2]), np.array([3]))}


@pytest.fixture
def make_trainings(tmp_path: Path) -> Callable[..., list[Training]]:
    """Place some trainings of a configuration below the test's folder."""

    def make(number: int, config: Config) -> list[Training]:
        return [
            Training(f"training {i}", {"fold": i}, config, "only", tmp_path / f"{i}")
            for i in range(number)
        ]

    return make


class Notes:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.epochs: list[tuple[str, int]] = []
        self.ended: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def on_start(self, training: Training) -> None:
        self.started.append(training.name)

    def on_epoch(self, training: Training, metrics: Any) -> None:
        self.epochs.append((training.name, int(metrics["epoch"])))

    def on_end(self, training: Training, outcome: Any) -> None:
        self.ended[training.name] = outcome.status
        self.reasons[training.name] = outcome.reason


@pytest.fixture
def notes() -> Notes:
    """What an observer heard."""
    return Notes()


def make_fit(body: Callable[..., None] | None = None) -> Callable[..., None]:
    """Return a stand-in for `fit` that keeps its contract of files and costs nothing.

    Nested, so that it travels to the workers by value.
    """

    def fit(config: Any, images: Any, split: Any, folder: Any, on_epoch_end: Any) -> None:
        import json
        import os

        done = folder / f"epochs{os.environ.get('RANK', '')}"
        status = "finished"
        first = int(done.read_text()) if done.exists() else 0
        for epoch in range(first + 1, config.training.epochs + 1):
            if body is not None:
                body(config, images, split, folder, epoch)
            done.write_text(str(epoch))
            if on_epoch_end({"epoch": epoch, "val_dice": epoch / 10}):
                status = "pruned"
                break
        result = {"status": status, "best_epoch": epoch, "best_value": epoch / 10, "epochs": epoch}
        result |= {"seconds": 0.0, "first_epoch": first + 1}
        (folder / "result.json").write_text(json.dumps(result))

    return fit
