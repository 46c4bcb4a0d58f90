"""A cluster that `ray up` brings up over ssh, used and taken down as the README says."""

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from busi_tune.data.phantom import write_phantom
from tests.cluster.asking import ask
from tests.cluster.machines import (
    PATIENCE,
    SSHD,
    Machine,
    beside_python,
    connect,
    machine,
    make_key,
    run_sshd,
    skip_without,
)
from tests.processes import TINY, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
ON_PREMISE = ROOT / "experiments" / "cluster" / "on_premise.yaml"
RAY = beside_python("ray")
DASHBOARD = "http://127.0.0.1:8265"
LOOPBACK = {"127.0.0.1", "::1"}
WHOLE_NODES = f"--resources.cpus_per_worker={os.cpu_count()}"
"""Each training takes all of a node, so that two at a time need head and worker."""


@dataclass
class Cluster:
    """A head and a worker, and the laptop from which they were brought up."""

    laptop: Machine
    head: Machine
    worker: Machine
    file: Path

    def ray(self, *arguments: str, seconds: float = 400) -> str:
        """Run a command of Ray's on the laptop and return what it says; it must succeed."""
        done = self.laptop.run([RAY, *arguments], seconds, ROOT, self.settings)
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def storage(self) -> Path:
        """A folder that all see."""
        return self.laptop.home.parent / "storage"

    @property
    def settings(self) -> dict[str, str]:
        to_jobs = {"RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": DASHBOARD}
        return {"TMPDIR": str(self.laptop.home), **to_jobs}

    @property
    def token(self) -> str:
        return (self.laptop.home / ".ray" / "auth_token").read_text().strip()


def adapt(file: Path, cluster: Cluster, key: Path) -> None:
    """Write on_premise.yaml for these machines; of its commands only what installs is replaced."""
    config = yaml.safe_load(ON_PREMISE.read_text())
    config["cluster_name"] = f"test-{cluster.head.pid}"
    config["provider"]["head_ip"] = cluster.head.address
    config["provider"]["worker_ips"] = [cluster.worker.address]
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    installs = [line for line in config["setup_commands"] if "pip install" in line or "uv" in line]
    assert len(installs) == 3
    rest = [line for line in config["setup_commands"] if line not in installs]
    patience = " ".join(f"{name}={value}" for name, value in PATIENCE.items())
    settings = f"echo {shlex.quote(f'export {patience}')} >> ~/.bashrc"
    config["setup_commands"] = [f"ln -sfn {shlex.quote(sys.prefix)} ~/venv", settings, *rest]
    file.write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    skip_without(SSHD, "ssh-keygen", "rsync")
    folder = tmp_path_factory.mktemp("machines")
    with (
        machine(folder / "laptop", "10.77.0.1") as laptop,
        machine(folder / "head", "10.77.1.1") as head,
        machine(folder / "worker", "10.77.2.1") as worker,
    ):
        key = laptop.home / ".ssh" / "key"
        make_key(key)
        for number, node in enumerate((head, worker), start=1):
            connect(laptop, node, number)
            run_sshd(node, key)
        made = Cluster(laptop, head, worker, laptop.home / "cluster.yaml")
        adapt(made.file, made, key)
        made.ray("get-auth-token", "--generate")
        made.ray("up", "--yes", str(made.file))
        log = laptop.home / "log of the tunnel"
        laptop.start([RAY, "dashboard", str(made.file)], log, ROOT, made.settings)
        wait_until(lambda: ("127.0.0.1", 8265) in laptop.listening(), "the tunnel", 240)
        yield made


@pytest.fixture(scope="module")
def images(cluster: Cluster) -> str:
    """A folder on the head, sent from the laptop."""
    write_phantom(cluster.laptop.home / "BUSI", 40)
    there = f"{cluster.head.home}/busi/"
    cluster.ray("rsync-up", str(cluster.file), f"{cluster.laptop.home}/BUSI/", there)
    return there


def test_every_node_joins(cluster: Cluster) -> None:
    def alive() -> int:
        _, text = ask(cluster.laptop, f"{DASHBOARD}/nodes?view=summary", cluster.token)
        return text.count('"state": "ALIVE"')

    wait_until(lambda: alive() == 2, "the worker", 240)


def submit(cluster: Cluster, name: str, words: list[str], *flags: str) -> str:
    """Submit a command of this project under a name; what `ray job submit` says."""
    line = ["job", "submit", *flags, "--submission-id", name, "--working-dir", ".", "--"]
    return cluster.ray(*line, "python", "-m", *words, seconds=900)


def settings_for(cluster: Cluster, images: str, command: str) -> list[str]:
    """What a short run needs, in a folder of the head and with the storage that all see."""
    places = [f"--run_dir={cluster.head.home / 'first' / command}", f"--data.root={images}"]
    return [*TINY, "--training.epochs=8", f"--storage={cluster.storage}", *places]


def fetch(cluster: Cluster, command: str) -> Path:
    """Fetch a run from the head to the laptop."""
    runs = cluster.laptop.home / "runs"
    there = str(cluster.head.home / "first" / command)
    cluster.ray("rsync-down", str(cluster.file), there, f"{runs}/")
    assert (runs / command / "report.html").is_file()
    return runs / command


def jobs(cluster: Cluster) -> dict[str, str]:
    """What the dashboard says of every job that was submitted."""
    _, text = ask(cluster.laptop, f"{DASHBOARD}/api/jobs/", cluster.token)
    return {job["submission_id"]: job["status"] for job in json.loads(text)}


def as_in_readme(line: str) -> list[str]:
    """A command of Ray's, in the words in which README has it."""
    assert f"`{line}`" in (ROOT / "README.md").read_text()
    return line.split()[1:]


def test_a_search_is_watched_stopped_and_goes_on_as_the_readme_says(
    cluster: Cluster, images: str
) -> None:
    settings = settings_for(cluster, images, "search")
    settings += ["--search.num_trials=6", "--search.refit=0", "--resources.max_concurrent=2"]
    submit(cluster, "first", ["busi_tune.search", *settings], "--no-wait")
    wait_until(lambda: any(cluster.storage.rglob("epochs.csv")), "an epoch", 240)
    cluster.ray(*as_in_readme("ray job stop first"))
    assert "first" in cluster.ray(*as_in_readme("ray job list"))
    assert jobs(cluster)["first"] == "STOPPED"
    assert "training(s) to go" in cluster.ray(*as_in_readme("ray job logs --follow first"))
    assert not (cluster.head.home / "first" / "search" / "report.html").exists()

    resume = f"--resume={cluster.head.home / 'first' / 'search'}"
    assert "succeeded" in submit(cluster, "second", ["busi_tune.search", resume])
    assert jobs(cluster)["second"] == "SUCCEEDED"
    assert len(pd.read_csv(fetch(cluster, "search") / "trials.csv")) == 6


def test_a_submitted_cross_validation_ends_with_its_results(cluster: Cluster, images: str) -> None:
    settings = [*settings_for(cluster, images, "kfold"), WHOLE_NODES]
    # So that the first is at work for longer than the second node takes to start a process.
    settings += ["--training.epochs=5"]
    words = ["busi_tune.kfold", *settings, "--kfold.num_folds=2", "--kfold.models={}"]
    assert "succeeded" in submit(cluster, "kfold", words)
    assert len(pd.read_csv(fetch(cluster, "kfold") / "folds.csv")) == 2


def test_trainings_ran_on_both_nodes_and_say_so(cluster: Cluster) -> None:
    starts = pd.concat(pd.read_csv(path) for path in cluster.storage.rglob("starts.csv"))
    assert set(starts["address"]) == {cluster.head.address, cluster.worker.address}


def test_the_tunnel_asks_for_the_token_and_is_the_only_way_to_the_dashboard(
    cluster: Cluster,
) -> None:
    jobs = f"{DASHBOARD}/api/jobs/"
    assert ask(cluster.laptop, jobs, cluster.token)[0] == 200
    assert ask(cluster.laptop, jobs)[0] == 401
    assert ask(cluster.laptop, jobs, "0" * 64)[0] == 403
    status, why = ask(cluster.laptop, f"http://{cluster.head.address}:8265/api/jobs/")
    assert (status, "refused" in why) == (None, True)


def test_only_ports_that_the_file_names_are_open(cluster: Cluster) -> None:
    """What a firewall lets through, see the comment of on_premise.yaml."""
    everywhere = {22, *range(6380, 6385), 52365, *range(10002, 11000)}
    for node, ports in ((cluster.head, {6379, 44217, 44227}), (cluster.worker, set[int]())):
        opened = {port for address, port in node.listening() if address not in LOOPBACK}
        assert {22, 6380} <= opened <= everywhere | ports


def test_ray_down_and_ray_stop_leave_nothing_running(cluster: Cluster) -> None:
    """Comes last: `ray down` ends the head; the workers need the line that the file names."""
    for tunnel in cluster.laptop.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # the end of one may end another
            tunnel.terminate()
    cluster.ray("down", "--yes", str(cluster.file))
    wait_until(lambda: not of_ray(cluster.head), "the end of the head", 240)
    (line,) = re.findall(r"ssh WORKER (.*)", ON_PREMISE.read_text())
    key = yaml.safe_load(cluster.file.read_text())["auth"]["ssh_private_key"]
    ssh = f"ssh -i {key} -o StrictHostKeyChecking=no root@{cluster.worker.address} {line}"
    stopped = cluster.laptop.run(["sh", "-c", ssh])
    assert stopped.returncode == 0, stopped.stdout
    wait_until(lambda: not of_ray(cluster.worker), "the end of the worker", 240)


def of_ray(node: Machine) -> list[str]:
    return [title for title in node.titles() if not title.startswith("sshd")]
