"""Running the commands as a user does: as processes, which can also be killed."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

TINY = [
    "--data.phantom_images=40",
    "--data.image_size=32",
    "--training.batch_size=8",
]


PY_SPY = str(Path(sys.executable).with_name("py-spy"))

_started: list[subprocess.Popen[bytes]] = []


def end_what_is_left() -> None:
    """End what `start` started and a failed test left running."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            left = descendants(process)
            process.kill()
            process.wait()
            for child in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


def start(
    command: str, arguments: Sequence[str], log: Path, address: str = ""
) -> subprocess.Popen[bytes]:
    """Start `python -m busi_tune.<command>`, its output in a file.

    Without an address it starts a cluster of its own.
    """
    environment = os.environ | {"RAY_ADDRESS": address}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", f"busi_tune.{command}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    _started.append(process)
    return process


def run(command: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m busi_tune.<command>` to its end in this environment.

    One that does not end fails the test with what it said and where Ray's processes stand.
    """
    line = [sys.executable, "-m", f"busi_tune.{command}", *arguments]
    process = subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        stacks = dump_stacks()
        process.kill()
        stdout, stderr = process.communicate()
        pytest.fail(f"{' '.join(line)} did not end:\n{stdout}\n{stderr}\n{stacks}")
    return subprocess.CompletedProcess(line, process.returncode, stdout, stderr)


def dump_stacks() -> str:
    """Show where each working process of Ray stands, by py-spy, which comes with Ray."""
    stacks = []
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(" ".join(process.info["cmdline"] or []).split())
        if title.startswith("ray::") and not title.startswith("ray::IDLE"):
            dump = [PY_SPY, "dump", "--nonblocking", "--pid", str(process.pid)]
            done = subprocess.run(dump, capture_output=True, text=True, timeout=60)
            stacks.append(f"{title}\n{done.stdout}{done.stderr}")
    return "\n".join(stacks)


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float = 400, every: float = 0.05
) -> None:
    """Wait for a condition, looking every so many seconds, and fail with what did not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(every)


def wait_for_end(
    process: subprocess.Popen[bytes], log: Path, seconds: float, code: int = 0
) -> None:
    """Wait for the end of what `start` started, and fail with its output at another exit code."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    ended = process.returncode
    how = f"did not end within {seconds:g} s" if ended is None else f"ended with {ended}"
    assert ended == code, f"it {how}:\n{log.read_text()}"


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All processes that a process has started, and theirs."""
    return psutil.Process(process.pid).children(recursive=True)


def kill_a_worker(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL one process that trains."""

    def killed() -> bool:
        for child in descendants(process):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if child.cmdline() and child.cmdline()[0].endswith(".train"):
                    child.kill()
                    return True
        return False

    wait_until(killed, "a training")


def kill(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """SIGKILL a driver and return what it had started."""
    started = descendants(process)
    process.kill()
    process.wait()
    return started
