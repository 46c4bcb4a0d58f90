"""Every file name of a run, atomic writing, the lock and the environment record."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

logger = logging.getLogger(__name__)

# What `write_atomic` and a study's copy are written to. Who reports or fails holds no lock.
_SCRAP = re.compile(
    r"\.(?!report\.|failure\.).+\.(csv|ckpt|db|json|yaml)\.[a-z0-9_]{8}|"
    r"\..+\.backup\.db\.[0-9]+(-journal|-wal|-shm)?"
)

SAY_SECONDS = 5.0
"""A longer wait for a lock is said."""

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
SPLITS = "splits.json"
PROTOCOL = "protocol.json"
AUDIT = "audit.csv"
EXTERNAL = "external"
COMPARISONS = "comparisons"
COMPARISON = "comparison"
"""The job of a folder in there, beside search, kfold and train."""
TRIALS = "trials.csv"
KNOWN = "known.yaml"
"""The known configurations of a search, as they were when it began."""
REFITS = "refits.csv"
REFIT_IMAGES = "refit_images.csv"
CLOSED_TEST = "closed_test.csv"
"""In a refit's folder: its images of the closed test part, looked at once."""
OPENED = "closed_test.json"
"""For whom the closed test part was opened."""
FOLDS = "folds.csv"
FAILURES = "failures.csv"
"""Of a cross-validation: a row per training that ended without a result, with the reason."""
EPOCHS = "epochs.csv"
IMAGES = "images.csv"
THRESHOLDS = "thresholds.csv"
LOGITS = "logits.csv"
"""Pixels at each rounded logit, for calibration."""
BEST = "best.yaml"
REPORT = "report.html"
STUDY = "study.db"
STUDIES = "studies"
TRACKERS = "trackers"
NESTED_TRIALS = "nested_trials.csv"
TRAININGS = "trainings"
PREDICTIONS = "predictions"
TABLES = "tables"
FIGURES = "figures"

LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
RESULT = "result.json"
FAILURE = "failure.json"
STOP = "stop"
LOCK = "lock"
RAY_TRAIN = "ray_train"
STARTS = "starts.csv"
"""In a training's folder: when, where and after which epoch each of its starts ran."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it appears whole or not at all, also after a power loss."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}){MEND}") from error


MEND = "; restore it from a copy, or start a new run"


def set_aside(path: Path, why: str) -> None:
    """Rename a file to `<name>.damaged`, numbered where there is one already, and say so."""
    target, number = path.with_name(f"{path.name}.damaged"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(target)
    logger.warning("%s %s; it is set aside as %s", path, why, target.name)


def was_set_aside(path: Path) -> bool:
    """Tell whether a file was set aside and not made anew since."""
    return not path.exists() and any(path.parent.glob(f"{path.name}.damaged*"))


def remove_scraps(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder; its lock is held."""
    for path in folder.glob(".*"):
        if _SCRAP.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, wait_seconds: float = 0.0, why: str = "") -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process dies.

    Args:
        folder: made where it is not there.
        wait_seconds: how long to wait for another process.
        why: it waits no longer, for the error.

    Raises:
        TimeoutError: another process held it for `wait_seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    said = False
    with (folder / LOCK).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - began
                if waited >= wait_seconds:
                    raise TimeoutError(
                        f"{folder} is in use by another process; wait for it or end it"
                        + (f" ({why})" if why else "")
                    ) from None
                if waited >= SAY_SECONDS and not said:
                    said = True
                    logger.warning("waiting for another process that works in %s", folder)
                time.sleep(0.1)
        yield


def refuse_existing(run_dir: Path) -> None:
    """Keep a new run out of a folder that is there already.

    Raises:
        ValueError: it is; says how to go on with the run in it.
    """
    if run_dir.exists():
        resume = f"go on with it by --resume {run_dir}, or " if (run_dir / CONFIG).exists() else ""
        raise ValueError(f"{run_dir} exists already: {resume}name another --run_dir")


def create(run_dir: Path, fill: Callable[[Path], None]) -> None:
    """Make a run directory that appears with its first files or not at all.

    Args:
        run_dir: the directory to be.
        fill: writes the first files into the folder that it is given.

    Raises:
        ValueError: something is there already.
    """
    refuse_existing(run_dir)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run_dir.parent, prefix=f".{run_dir.name}.") as temporary:
        whole = Path(temporary) / "run"
        whole.mkdir()
        fill(whole)
        whole.rename(run_dir)


def environment_record(job: str, data_hash: str, num_images: int) -> dict[str, Any]:
    """Describe where and with what a run is made: versions, commit, hardware, data, command."""
    return {
        "job": job,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(["python", "-m", *_module_and_arguments()]),
        "data_hash": data_hash,
        "num_images": num_images,
        "commit": _commit(),
        "code": hash_code(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "packages": {name: _version(name) for name in _RECORDED_PACKAGES},
    }


def _gpus() -> list[str]:
    """Name the GPUs of this machine; the nodes of a cluster may have others."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def hash_code(package: Path = Path(__file__).parent) -> str:
    """Return a hash of every source file of the package, whether committed or not."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def check_code(run_dir: Path) -> None:
    """Keep other code from going on with a run; runs of versions that did not note theirs may.

    Raises:
        ValueError: the code is not what the run was begun with; says which both are.
    """
    begun = read_json(run_dir / ENVIRONMENT)
    if begun.get("code", hash_code()) == hash_code():
        return
    was = f"busi_tune {begun['packages']['busi_tune']} at commit {begun['commit']}"
    here = f"busi_tune {_version('busi_tune')} at commit {_commit()}"
    raise ValueError(
        f"{run_dir} was begun with {was}, and this is {here}: its sources differ, so trainings "
        "that are still open may come out otherwise than those that are finished. Check out that "
        "commit (-dirty: with the changes it had) to go on, or start a new run"
    )


_RECORDED_PACKAGES = (
    "busi_tune", "torch", "torchvision", "ray", "optuna", "segmentation_models_pytorch", "timm",
    "numpy", "scipy", "scikit-learn", "pandas", "pillow", "matplotlib", "opencv-python-headless",
)  # fmt: skip


def _module_and_arguments() -> list[str]:
    main = sys.modules["__main__"]
    name = main.__spec__.name if main.__spec__ else Path(sys.argv[0]).name
    return [name, *sys.argv[1:]]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, with -dirty where files differ from it; None where installed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
