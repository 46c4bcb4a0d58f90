"""Runs whose storage is s3://: killed, lost to this machine, and gone on with from there."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest

from busi_tune import kfold, predict
from busi_tune.data.phantom import write_phantom
from tests.cluster.broken_runs import inside
from tests.cluster.nodes import Cluster, run_cluster
from tests.processes import TINY, end_what_is_left, kill, start, wait_for_end, wait_until
from tests.s3_server import BUCKET, Server, run_server

# Four steps, each with a limit of its own that says more.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

STEP_SECONDS = 240
"""For what takes a minute on an idle machine."""

Driver = subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(server: Server) -> Iterator[Cluster]:
    """Two nodes with a CPU each, which have no folder in common as far as runs know."""
    with run_cluster(2) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


def storage_for(cluster: Cluster, server: Server, prefix: str) -> str:
    """Return a storage by an address that all nodes reach."""
    return server.uri(prefix, cluster.address.partition(":")[0])


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """End the processes of a test that failed."""
    yield
    end_what_is_left()


class Stored:
    """What the storage has of a run."""

    def __init__(self, server: Server, prefix: str) -> None:
        """Of a run named `run` below a prefix."""
        self.uri = server.uri(f"{prefix}/run")
        self._objects = server.objects(f"{prefix}/run")

    def names(self) -> list[str]:
        return list(self._objects.list())

    def sums(self, name: str) -> dict[str, str]:
        """The checksum of a file of each training that has it, by key.

        As the manifests name it: what no manifest names was not stored in time and counts for
        nothing.
        """
        keys = [path.split("/")[1] for path in self.names() if path.endswith("/manifest.json")]
        files = {k: json.loads(self.read(f"trainings/{k}/manifest.json"))["files"] for k in keys}
        return {key: named[name]["sha256"] for key, named in files.items() if name in named}

    def ended(self) -> dict[str, str]:
        """The checksum of each result, which has the seconds that it took, by key."""
        return self.sums("result.json")

    def epochs(self) -> int:
        """Epochs of all trainings; a table that is replaced meanwhile counts at the next look."""
        tables = [
            self._objects.get(f"trainings/{key}/epochs.csv~{checksum[:16]}")
            for key, checksum in self.sums("epochs.csv").items()
        ]
        return sum(len(pd.read_csv(io.BytesIO(table))) for table in tables if table is not None)

    def read(self, name: str) -> bytes:
        content = self._objects.get(name)
        assert content is not None, name
        return content


def enter_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a machine of which nothing is known, as far as runs are concerned."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder / "runs" / "run"


def wait_for(condition: Callable[[], bool], driver: Driver, log: Path) -> None:
    """Wait until the storage has something, from a driver that is still at work then."""
    wait_until(
        lambda: condition() or driver.poll() is not None, "what is to be stored", STEP_SECONDS, 0.5
    )
    assert driver.poll() is None, log.read_text()


def lose_search(settings: list[str], stored: Stored, folder: Path) -> dict[str, str]:
    """Begin a search on a cluster of its own, lose driver, folder and head; what had ended."""
    log = folder / "log of what is lost"
    with run_cluster(1) as lost, inside(lost):
        driver = start("search", settings, log, lost.address)
        wait_for(lambda: len(stored.ended()) >= 1, driver, log)
        kill(driver)
    shutil.rmtree(folder / "first")
    return stored.ended()


def test_a_search_whose_machine_and_head_are_lost_goes_on_on_others(
    cluster: Cluster, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, stored = tmp_path / "log", Stored(server, "search")
    settings = [*TINY, "--training.epochs=2", "--search.num_trials=8", "--search.pruner=none"]
    settings += ["--search.refit=1", "--search.refit_seeds=1"]
    settings += ["--run_dir=runs/run", f"--storage={storage_for(cluster, server, 'search')}"]
    enter_machine(tmp_path / "first", monkeypatch)
    before = lose_search(settings, stored, tmp_path)
    assert len(before) < 8, "the search was over already"

    run_dir = enter_machine(tmp_path / "second", monkeypatch)
    wait_for_end(
        start("search", [f"--resume={stored.uri}"], log, cluster.address), log, STEP_SECONDS
    )
    after = stored.ended()
    assert {key: after[key] for key in before} == before, "a finished training was run again"
    trials = pd.read_csv(run_dir / "trials.csv")
    assert trials["trial"].tolist() == list(range(8))
    assert set(trials["key"]) >= before.keys(), "a finished trial was lost"
    epochs = pd.read_csv(run_dir / "epochs.csv").groupby("key")["epoch"].agg(list)
    assert epochs.map(lambda each: each == [1, 2]).all(), "an epoch is there twice or not at all"

    check_copy(stored, run_dir, trials, tmp_path / "study.db")

    head, log = stored.read("head.json"), tmp_path / "log of a finished run"
    enter_machine(tmp_path / "third", monkeypatch)
    wait_for_end(
        start("search", [f"--resume={stored.uri}"], log, cluster.address), log, STEP_SECONDS
    )
    assert "Ray" not in log.read_text(), "a finished run started Ray"
    assert stored.ended() == after
    assert stored.read("head.json") == head, "a finished run changed the storage"

    write_phantom(Path("new"), 3, seed=1)
    assert predict.main(["--run=runs/run", "--images=new", "--out=predicted"]) == 0
    assert len(list(Path("predicted", "masks").iterdir())) == 3


def check_copy(stored: Stored, run_dir: Path, trials: pd.DataFrame, study_file: Path) -> None:
    """All of a finished search lies in the storage, and no checkpoint that nobody needs."""
    names = set(stored.names())
    local = [
        path for path in run_dir.rglob("*") if path.is_file() and "trainings" not in path.parts
    ]
    copied = {path.relative_to(run_dir).as_posix() for path in local if is_of_the_run(path)}
    assert {"best.yaml", "report.html", "study.db", "closed_test.json"} <= copied
    assert copied <= names
    study_file.write_bytes(stored.read("study.db"))
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{study_file}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * len(trials)
    lost = set(trials["key"]) - set(trials.nlargest(1, "value")["key"])
    kept = {name.split("/")[1] for name in names if "/best.ckpt~" in name}
    assert not kept & lost, "checkpoints of trials that lost are kept"


def is_of_the_run(path: Path) -> bool:
    return not path.name.startswith((".", "lock")) and "backup" not in path.name


def test_a_cross_validation_survives_its_storage_and_its_machine(
    cluster: Cluster, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage falls silent, the run is resumed; its machine is lost, it goes on on another."""
    log, stored = tmp_path / "log", Stored(server, "kfold")
    settings = [*TINY, "--training.epochs=8", "--kfold.num_folds=2", "--kfold.models={}"]
    settings += ["--run_dir=runs/run", f"--storage={storage_for(cluster, server, 'kfold')}"]
    settings += ["--resources.wait_seconds=1", "--resources.max_concurrent=1"]
    enter_machine(tmp_path / "first", monkeypatch)
    driver = start("kfold", settings, log, cluster.address)
    wait_for(lambda: stored.epochs() >= 1, driver, log)
    server.fall_silent()
    try:
        wait_for_end(driver, log, STEP_SECONDS, code=3)
    finally:
        server.answer_again()
    assert "does not answer" in log.read_text()
    assert "go on with: python -m busi_tune.kfold --resume" in log.read_text()

    epochs = stored.epochs()
    driver = start("kfold", ["--resume=runs/run"], log, cluster.address)
    wait_for(lambda: stored.epochs() > epochs, driver, log)
    kill(driver)
    before = stored.ended()
    shutil.rmtree(tmp_path / "first")

    run_dir = enter_machine(tmp_path / "second", monkeypatch)
    wait_for_end(
        start("kfold", [f"--resume={stored.uri}"], log, cluster.address), log, STEP_SECONDS
    )
    after = stored.ended()
    assert len(after) == 2
    assert {key: after[key] for key in before} == before, "a finished fold was run again"
    table = pd.read_csv(run_dir / "epochs.csv").groupby("key")["epoch"].agg(list)
    assert table.tolist() == [[*range(1, 9)]] * 2
    starts = pd.concat(pd.read_csv(path) for path in run_dir.glob("trainings/*/starts.csv"))
    assert len(starts) >= 3
    assert (starts["after_epoch"] > 0).sum() >= 1, "a fold went on from its checkpoint"
    assert not [name for name in stored.names() if "/last.ckpt~" in name]


def test_nodes_without_a_shared_folder_train_as_ranks_of_one_training(
    cluster: Cluster, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*TINY, "--training.epochs=2", "--resources.num_workers=2", "--run_dir=runs/run"]
    run_dir, log = enter_machine(tmp_path / "first", monkeypatch), tmp_path / "log"
    settings += [f"--storage={storage_for(cluster, server, 'ranks')}"]
    driver = start("train", settings, log, cluster.address)
    wait_for_end(driver, log, STEP_SECONDS)
    assert len(Stored(server, "ranks").ended()) == 1
    assert pd.read_csv(run_dir / "folds.csv")["num_workers"].tolist() == [2]
    assert not list(run_dir.glob("trainings/*/lock")), "a worker trained in the driver's folder"


@pytest.mark.parametrize(
    ("bucket", "said"), [("other", "has no bucket other; create it"), (BUCKET, "is no run")]
)
def test_a_storage_that_has_not_what_is_asked_for_is_bad_input(
    server: Server, capsys: pytest.CaptureFixture[str], bucket: str, said: str
) -> None:
    uri = server.uri("nothing").replace(BUCKET, bucket)
    flag = "--storage" if bucket == "other" else "--resume"
    assert kfold.main([flag, uri]) == 2
    assert said in capsys.readouterr().err
