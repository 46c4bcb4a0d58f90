"""A Ray cluster of several nodes on one machine, started by `ray start` as a user does.

Each node is a raylet with an address, CPUs and workers of its own. Where the machine allows it
(root, `ip netns`), every node but the head has a network and a host name of its own too; elsewhere
the nodes have addresses of the loopback network.
"""

import contextlib
import fcntl
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from tests.cluster.machines import PATIENCE, START_SECONDS
from tests.processes import wait_until
from tests.s3_server import find_port

# A head without the client server, which nobody here connects to.
RAY_START = [sys.executable, "-m", "busi_tune.orchestration.without_client", "ray", "start"]
AGENT_PORTS = (
    "dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export",
)  # fmt: skip
NOT_TRAINING = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
OBJECT_STORE_BYTES = 100_000_000
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """Where a node lives."""

    address: str
    within: list[str]
    """The command inside which its processes are started."""
    link: str = ""
    """Its cable, where it has a network of its own."""


class Network:
    """Where the nodes of a cluster get their places from."""

    def __init__(self) -> None:
        self._tag = f"bt{os.getpid()}x{next(_numbers)}"
        self._num_nodes = 1
        self._subnet = self._make_bridge()

    def _make_bridge(self) -> str | None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return None
        if not _ip(f"link add {self._tag} type bridge", check=False):
            return None
        _ip(f"link set {self._tag} up")
        with (Path(tempfile.gettempdir()) / "busi_tune-networks.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _remove_what_is_left()
            in_use = _show("-4", "addr")
            subnets = (f"10.213.{number}" for number in range(250))
            subnet = next(each for each in subnets if f"{each}." not in in_use)
            _ip(f"addr add {subnet}.1/24 dev {self._tag}")
        return subnet

    @property
    def is_real(self) -> bool:
        """Whether nodes have networks of their own."""
        return self._subnet is not None

    def place_head(self) -> Place:
        """Return the head's place, which is the machine itself."""
        return Place(f"{self._subnet}.1" if self.is_real else "127.0.0.2", [])

    def add(self) -> Place:
        """Make a place for a further node."""
        self._num_nodes += 1
        name = f"{self._tag}n{self._num_nodes}"
        if not self.is_real:
            return Place(f"127.0.0.{self._num_nodes + 1}", [])
        address = f"{self._subnet}.{self._num_nodes}"
        _ip(f"netns add {name}")
        _ip(f"link add {name} type veth peer name eth0 netns {name}")
        _ip(f"link set {name} master {self._tag} up")
        _ip(f"-n {name} addr add {address}/24 dev eth0")
        _ip(f"-n {name} link set lo up")
        _ip(f"-n {name} link set eth0 up")
        within = ["ip", "netns", "exec", name, "unshare", "--uts"]
        named = ["sh", "-c", 'hostname "$0" && exec "$@"', name]
        return Place(address, [*within, *named], name)

    def remove(self) -> None:
        """Give everything back."""
        if self.is_real:
            for number in range(2, self._num_nodes + 1):
                _ip(f"netns del {self._tag}n{number}", check=False)
            _ip(f"link del {self._tag}", check=False)


class Node:
    """A node of the cluster, with the process that keeps it."""

    def __init__(
        self, place: Place, command: list[str], environment: dict[str, str], log: Path
    ) -> None:
        self.address = place.address
        self._link = place.link
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*place.within, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
            )

    def processes(self) -> list[psutil.Process]:
        """Return all that runs on the node; nothing once its keeper has ended."""
        if not self.is_alive():
            return []
        try:
            whole = psutil.Process(self._process.pid)
            return [whole, *whole.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill_raylet(self) -> None:
        """SIGKILL the raylet; workers and agents are left to notice."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "raylet":
                    process.kill()
                    return
        raise AssertionError(f"the node {self.address} has no raylet: {self._log.read_text()}")

    def trainings(self) -> list[psutil.Process]:
        """Return the processes that train."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                title = " ".join(process.cmdline())
                if title.startswith("ray::") and not title.startswith(NOT_TRAINING):
                    found.append(process)
        return found

    def kill(self) -> None:
        """SIGKILL everything at once, as a power cut would."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)  # nobody sees the others die
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)
        self._process.wait()

    def is_alive(self) -> bool:
        """Whether the node's keeper runs: it ends itself when it misses a process of its node."""
        return self._process.poll() is None

    def cut(self) -> None:
        """Pull the cable: the node lives on, and nobody reaches it."""
        _ip(f"link set {self._link} down")

    def has_joined(self) -> bool:
        """Whether the node is up; fails with what it said where it has ended."""
        said = self._log.read_text()
        assert self._process.poll() is None, f"the node {self.address} ended:\n{said}"
        return "Ray runtime started" in said


class Cluster:
    """A head and its nodes, in a folder of their own that holds the token too."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.folder = Path(tempfile.mkdtemp(prefix="bt-"))  # short: sockets lie in it
        (self.folder / ".ray").mkdir()
        (self.folder / ".ray" / "auth_token").write_text(secrets.token_hex(32))
        self.environment = os.environ | {
            "HOME": str(self.folder),
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_worker_niceness": "0",
            # What is left of a cluster whose head is lost ends itself after this, not after 60 s.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
            **PATIENCE,
        }
        self._place = network.place_head()
        self.address = f"{self._place.address}:{find_port(self._place.address)}"
        self.environment["RAY_ADDRESS"] = self.address
        self.nodes: list[Node] = []

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def has_networks(self) -> bool:
        """Whether nodes have networks of their own, which can be cut."""
        return self._network.is_real

    def living(self) -> list[Node]:
        """Return the nodes that were not lost."""
        return [node for node in self.nodes if node.is_alive()]

    def start_head(self, cpus: float = 1, *arguments: str) -> Node:
        """Start the head."""
        port = self.address.rpartition(":")[2]
        head = ["--head", f"--port={port}", "--include-dashboard=false"]
        return self._start(self._place, [*head, *arguments], cpus)

    def add(self, cpus: float = 1) -> Node:
        """Start a node and wait until it has joined."""
        return self._start(self._network.add(), [f"--address={self.address}"], cpus)

    def _start(self, place: Place, arguments: list[str], cpus: float) -> Node:
        address = place.address
        command = [*RAY_START, "--block", *arguments, f"--node-ip-address={address}"]
        command += [f"--num-cpus={cpus:g}", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false"]
        # Where agents may choose their ports, the raylet ends itself if they take over 15 s.
        command += [f"--{n}-port={port}" for n, port in _free_ports(address).items()]
        environment = {k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"}
        node = Node(place, command, environment, self.folder / f"{address}.log")
        self.nodes.append(node)
        wait_until(node.has_joined, f"the node {address}", START_SECONDS)
        return node


@contextlib.contextmanager
def run_cluster(num_nodes: int) -> Iterator[Cluster]:
    """Run a cluster of so many nodes with a CPU each, the head among them."""
    network = Network()
    try:
        with Cluster(network) as cluster:
            cluster.start_head()
            for _ in range(num_nodes - 1):
                cluster.add()
            yield cluster
    finally:
        network.remove()


def _free_ports(address: str) -> dict[str, int]:
    """Return a port for each agent that is free here, or on a node that is another host."""
    try:
        socket.create_server((address, 0)).close()
    except OSError:
        address = "127.0.0.1"
    ports = set[int]()
    while len(ports) < len(AGENT_PORTS):
        ports.add(find_port(address))
    return dict(zip(AGENT_PORTS, ports, strict=True))


def _remove_what_is_left() -> None:
    """Remove the bridges, cables and namespaces of test processes that were killed."""
    for kind in ("netns", "link"):
        for name, pid in set(re.findall(r"\b(bt(\d+)x\d+(?:n\d+)?)\b", _show(kind))):
            if not psutil.pid_exists(int(pid)):
                _ip(f"{kind} del {name}", check=False)


def _show(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True).stdout


def _ip(arguments: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 0 or not check, f"ip {arguments}: {done.stderr}"
    return done.returncode == 0
