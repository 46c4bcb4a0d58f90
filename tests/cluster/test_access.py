"""Nobody gets in without the token, and what runs code for who asks listens on loopback alone.

Two clusters: the head as cluster.yaml starts it, and the one that a search starts for itself. Each
is on a machine of its own, beside a stranger's that reaches all of its ports.
"""

import json
import re
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.cluster.asking import ask, call
from tests.cluster.machines import PATIENCE, Machine, connect, machine, skip_without
from tests.processes import TINY, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
DASHBOARD, CLIENT, AGENT = 8265, 10001, 52365
HERE = f"http://127.0.0.1:{DASHBOARD}"
LOOPBACK = {"127.0.0.1", "::1"}
PUSH_TASK = "/ray.rpc.CoreWorkerService/PushTask"
JOB = {"entrypoint": "touch /tmp/ray/a-stranger-was-here"}


@dataclass
class Head:
    """A cluster of one node, and a machine without its token."""

    machine: Machine
    stranger: Machine

    @property
    def token(self) -> str:
        return (self.machine.home / ".ray" / "auth_token").read_text().strip()

    def node(self) -> dict[str, int]:
        """Return the ports that the dashboard knows of."""
        status, text = ask(self.machine, f"{HERE}/nodes?view=summary", self.token)
        assert status == 200, text
        (node,) = json.loads(text)["data"]["summary"]
        return {**node, **node["raylet"]}

    def metrics(self) -> str:
        """Return the numbers of all places that Ray names to Prometheus."""
        found = self.machine.run(["cat", "/tmp/ray/prom_metrics_service_discovery.json"])
        known = json.loads(found.stdout) if found.returncode == 0 else []
        targets = [target for each in known for target in each["targets"]]
        return "".join(ask(self.machine, f"http://{each}/metrics")[1] for each in targets)

    def runs_a_search(self) -> bool:
        """Whether the cluster is that of a search."""
        return any("busi_tune.search" in title for title in self.machine.titles())

    def gcs(self) -> str:
        """Return the address of the control store, which the raylet is told."""
        (address, *_) = re.findall(r"--gcs-address=(\S+)", "\n".join(self.machine.titles()))
        return str(address)


def start_as_described(node: Machine) -> None:
    """Run what cluster.yaml runs on its head, as it stands, but for installing packages."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    (path,) = [line for line in config["setup_commands"] if ".bashrc" in line]
    (node.home / "venv").symlink_to(sys.prefix)
    # The autoscaler's own part: a cluster of this machine alone, without AWS.
    alone = {"cluster_name": "alone", "provider": {"type": "local", "worker_ips": []}}
    alone["provider"]["head_ip"] = node.address
    (node.home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(alone))
    token = node.home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text(secrets.token_hex(32))
    for line in [path, *config["head_start_ray_commands"]]:
        # The shell in which `ray up` runs the commands of a cluster.
        shell = ["bash", "--login", "-c", "-i", f"source ~/.bashrc; ({line})"]
        done = node.run(shell, environment=PATIENCE)
        assert done.returncode == 0, done.stdout


def start_a_search(node: Machine) -> None:
    """Start a search that does not end by itself; it starts a cluster."""
    words = [*TINY, "--search.num_trials=1000", "--training.epochs=2", "--run_dir=run"]
    log = node.home / "log"
    node.start([sys.executable, "-m", "busi_tune.search", *words], log, node.home)
    wait_until(lambda: "dashboard: http://127.0.0.1:8265" in log.read_text(), "a cluster", 300)
    wait_until(
        lambda: any((node.home / "run" / "trainings").glob("*/epochs.csv")), "a training", 300
    )


@pytest.fixture(scope="module", params=[start_as_described, start_a_search])
def head(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Head]:
    skip_without()
    folder = tmp_path_factory.mktemp("machines")
    with (
        machine(folder / "stranger", "10.77.0.1") as stranger,
        machine(folder / "head", "10.77.1.1") as node,
    ):
        connect(stranger, node, 1)
        request.param(node)
        wait_until(lambda: ("127.0.0.1", AGENT) in node.listening(), "the agent", 300)
        yield Head(node, stranger)


def test_dashboard_and_jobs_listen_on_loopback_alone_and_no_client_server_runs(head: Head) -> None:
    listening = head.machine.listening()
    assert {address for address, port in listening if port == DASHBOARD} == {"127.0.0.1"}
    assert not [address for address, port in listening if port == CLIENT]
    assert not [title for title in head.machine.titles() if "ray.util.client.server" in title]
    for port in (DASHBOARD, CLIENT):
        status, why = ask(head.stranger, f"http://{head.machine.address}:{port}/api/version")
        assert (status, "refused" in why) == (None, True)


@pytest.mark.parametrize(
    "path", ["api/version", "api/jobs/", "nodes?view=summary", "logical/actors"]
)
def test_the_dashboard_answers_only_whoever_has_the_token(head: Head, path: str) -> None:
    for token, expected in (("", 401), ("0" * 64, 403)):
        assert ask(head.machine, f"{HERE}/{path}", token)[0] == expected
    assert ask(head.machine, f"{HERE}/{path}", head.token)[0] == 200


def test_a_job_runs_only_with_the_token(head: Head) -> None:
    trace = head.machine.home.parent / "ray" / "a-stranger-was-here"
    assert ask(head.machine, f"{HERE}/api/jobs/", "", JOB)[0] == 401
    assert ask(head.machine, f"{HERE}/api/jobs/", "0" * 64, JOB)[0] == 403
    agent = f"http://{head.machine.address}:{AGENT}/api/job_agent/jobs/"
    assert ask(head.stranger, agent, "", JOB)[0] == 401
    assert ask(head.stranger, agent, "0" * 64, JOB)[0] == 403
    assert not trace.exists()
    assert ask(head.machine, f"{HERE}/api/jobs/", head.token, JOB)[0] == 200
    wait_until(trace.exists, "the job of whoever has the token", 300)


@pytest.mark.parametrize(
    ("service", "methods"),
    [
        ("gcs", ["NodeInfoGcsService/GetAllNodeInfo", "JobInfoGcsService/AddJob"]),
        ("nodeManagerPort", ["NodeManagerService/GetNodeStats", "NodeManagerService/DrainRaylet"]),
        ("objectManagerPort", ["ObjectManagerService/Push"]),
        ("metricsAgentPort", ["ReporterService/GetTraceback", "ReporterService/CpuProfiling"]),
    ],
)
def test_what_must_listen_for_other_nodes_refuses_strangers(
    head: Head, service: str, methods: list[str]
) -> None:
    port = head.gcs().rpartition(":")[2] if service == "gcs" else head.node()[service]
    address = f"{head.machine.address}:{port}"
    requests = [
        (address, f"/ray.rpc.{method}", token) for method in methods for token in ("", "0" * 64)
    ]
    assert set(call(head.stranger, requests)) == {"UNAUTHENTICATED"}


def test_no_port_takes_a_task_from_strangers(head: Head) -> None:
    """Whatever listens for other nodes: workers refuse, the rest does not know what a task is."""
    requests = [
        (f"{head.machine.address}:{port}", PUSH_TASK, token)
        for address, port in head.machine.listening()
        if address not in LOOPBACK
        for token in ("", "0" * 64)
    ]
    said = dict(zip(requests, call(head.stranger, requests), strict=True))
    allowed = {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED"}
    assert not {asked: status for asked, status in said.items() if status not in allowed}
    if head.runs_a_search():
        assert list(said.values()).count("UNAUTHENTICATED") >= 2 * 2, "two workers, asked twice"


def test_the_token_opens_the_control_store_to_other_nodes(head: Head) -> None:
    """What makes the refusals above mean something."""
    method = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
    assert call(head.stranger, [(head.gcs(), method, head.token)]) == ["OK"]


def test_strangers_get_no_environment_made(head: Head) -> None:
    url = f"http://{head.machine.address}:{head.node()['runtimeEnvAgentPort']}"
    assert ask(head.stranger, f"{url}/get_or_create_runtime_env", "", {})[0] == 401
    assert ask(head.stranger, f"{url}/get_or_create_runtime_env", "0" * 64, {})[0] == 403


def test_a_search_has_its_name_in_the_dashboard_and_tells_its_numbers(head: Head) -> None:
    if not head.runs_a_search():
        pytest.skip("nothing runs on the head as cluster.yaml starts it")
    jobs = json.loads(ask(head.machine, f"{HERE}/api/jobs/", head.token)[1])
    assert "run" in [(job["metadata"] or {}).get("job_name") for job in jobs]
    wait_until(lambda: "ray_busi_tune_trainings" in head.metrics(), "its numbers", 120)
