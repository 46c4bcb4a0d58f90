"""Machines on one machine: process trees with their own network, processes, home and /tmp/ray.

What runs in one sees no other's processes and ports, so that commands for a whole machine, `ray
stop` and fixed ports among them, can be run as they stand. Linux namespaces; needs root.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.processes import wait_until

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
START_SECONDS = 300
"""What a part of Ray may take to start; its own 30 s are too few on a busy machine."""
PATIENCE = {
    "RAY_raylet_start_wait_time_s": str(START_SECONDS),
    "RAY_agent_register_timeout_ms": str(1000 * START_SECONDS),
}
_NAMESPACES = ["--net", "--pid", "--mount"]
# The first process of a machine ends, and all others with it, when its standard input is closed.
_INIT = (
    'mount --bind "$1/ray" /tmp/ray && mount --bind "$1/passwd" /etc/passwd'
    " && ip link set lo up && echo ready && read -r _"
)


@dataclass
class Machine:
    """A process tree of its own, with its own address."""

    home: Path
    address: str
    pid: int
    """Of its first process, seen from outside."""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def enter(self, command: Sequence[str], folder: Path | None = None) -> list[str]:
        """Return the command line that runs a command there."""
        here = ["nsenter", f"--target={self.pid}", *_NAMESPACES, "--"]
        return [*here, "env", "-C", str(folder or self.home), f"HOME={self.home}", *command]

    def run(
        self,
        command: Sequence[str],
        seconds: float = 600,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end, whatever its exit code; stderr is part of stdout."""
        return subprocess.run(
            self.enter(command, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            env=bare_environment() | dict(environment or {}),
        )

    def start(
        self,
        command: Sequence[str],
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a command there; it ends with the machine at the latest."""
        with log.open("ab") as file:
            self.started.append(
                subprocess.Popen(
                    self.enter(command, folder),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=bare_environment() | dict(environment or {}),
                )
            )

    def processes(self) -> list[psutil.Process]:
        """Return what runs there, its first process and zombies aside."""
        space = Path(f"/proc/{self.pid}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and Path(f"/proc/{process.pid}/ns/pid").readlink() == space:
                    found.append(process)
        return [process for process in found if process.pid != self.pid]

    def titles(self) -> list[str]:
        """Return the command lines of what runs there."""
        titles = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                titles.append(" ".join(process.cmdline()) or process.name())
        return titles

    def listening(self) -> set[tuple[str, int]]:
        """Return the addresses and ports on which something there listens."""
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A":
                    address, port = local.split(":")
                    found.add((_readable(address), int(port, 16)))
        return found


def _readable(address: str) -> str:
    """Turn the kernel's hexadecimal of an address into words."""
    if len(address) == 8:
        return ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
    known = {"0" * 32: "::", "0" * 24 + "01000000": "::1"}
    mapped = address.upper().startswith("0" * 16 + "FFFF0000")
    return _readable(address[24:]) if mapped else known.get(address, address)


def bare_environment() -> dict[str, str]:
    """Return this environment without what names a cluster, its token or a virtual environment."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "SSH_", "PYTEST_")) and name != "VIRTUAL_ENV"
    } | {"RAY_USAGE_STATS_ENABLED": "0"}


def skip_without(*programs: str) -> None:
    """Skip the test where machines cannot be had, and say why."""
    missing = [name for name in ("unshare", "nsenter", "ip", *programs) if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True).returncode:
        pytest.skip("namespaces need root and CAP_SYS_ADMIN")


@contextlib.contextmanager
def machine(folder: Path, address: str) -> Iterator[Machine]:
    """Run a machine that nothing reaches yet, until the end of the block."""
    home = folder / "home"
    home.mkdir(parents=True)
    (folder / "ray").mkdir()
    users = Path("/etc/passwd").read_text()
    # ssh and sshd ask the list of users, not the environment, where home is.
    (folder / "passwd").write_text(re.sub(r"(?m)^(root:.*:)[^:]*(:[^:]*)$", rf"\1{home}\2", users))
    Path("/tmp/ray").mkdir(exist_ok=True)
    command = ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "--kill-child", "bash", "-c"]
    init = subprocess.Popen(
        [*command, _INIT, "init", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert init.stdin is not None and init.stdout is not None
    assert init.stdout.readline() == "ready\n", "the machine did not start"
    (first,) = psutil.Process(init.pid).children()
    made = Machine(home, address, first.pid)
    try:
        yield made
    finally:
        init.stdin.close()
        init.wait(30)
        init.stdout.close()
        for process in made.started:
            process.wait(30)


def connect(hub: Machine, node: Machine, number: int) -> None:
    """Lay a cable between two machines; the hub passes on what is for others.

    Args:
        hub: where all cables meet.
        node: gets its own address, and everything through the hub.
        number: of the cable, from 1.
    """
    gateway = f"{node.address.rpartition('.')[0]}.254"
    cable = f"cable{number}"
    lines = [
        (hub, f"ip link add {cable} type veth peer name eth0 netns {node.pid}"),
        (hub, f"ip address add {gateway}/24 dev {cable}"),
        (hub, f"ip link set {cable} up"),
        (node, f"ip address add {node.address}/24 dev eth0"),
        (node, "ip link set eth0 up"),
        (node, f"ip route add default via {gateway}"),
    ]
    for where, line in lines:
        network = ["nsenter", f"--net=/proc/{where.pid}/ns/net"]
        subprocess.run([*network, *line.split()], check=True, timeout=30)
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    assert hub.run(["sh", "-c", forward]).returncode == 0


def make_key(path: Path) -> None:
    """Make a key for ssh, without a passphrase."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=30)


def run_sshd(node: Machine, key: Path) -> None:
    """Let in, as root, whoever has the key."""
    make_key(node.home / ".ssh" / "host")
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = node.home / ".ssh" / "sshd_config"
    settings.write_text(
        f"HostKey {node.home}/.ssh/host\n"
        f"AuthorizedKeysFile {key}.pub\n"
        "ListenAddress 0.0.0.0:22\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    node.start([SSHD, "-D", "-e", "-f", str(settings)], node.home / ".ssh" / "log")
    wait_until(lambda: ("0.0.0.0", 22) in node.listening(), "sshd", 30)


def beside_python(name: str) -> str:
    """Return the path of a program that was installed with this Python's packages."""
    return str(Path(sys.executable).with_name(name))
