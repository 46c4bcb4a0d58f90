"""A run in the storage: a copy of its directory under plain names, and its trainings.

The driver copies the small files whenever a training starts or ends, and all of them at the end.
"""

import contextlib
import hashlib
import json
import socket
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from busi_tune import run_directory
from busi_tune.plan import Outcome, Training, record_failure
from busi_tune.remote.address import parse_address
from busi_tune.remote.head import HEAD, read_head, refuse_other
from busi_tune.remote.objects import Objects, StorageError, check_name, each_of
from busi_tune.remote.training import StoredTraining
from busi_tune.run_directory import read_json, write_json
from busi_tune.study.backup import backup_study

PUSHED = ".pushed.json"
"""In the run directory: checksums of what the storage has of it."""
_GROWING_FOLDERS = (run_directory.STUDIES,)


class StoredRun:
    """A run's place in the storage; follows its trainings as an observer."""

    def __init__(self, storage: str, run_dir: Path, patience_seconds: float) -> None:
        """Connect to nothing yet.

        Args:
            storage: the address below which runs lie, each under its name.
            run_dir: the run's directory on this machine.
            patience_seconds: how long a storage that fails is tried again.
        """
        self.run_dir = run_dir
        head = run_dir / HEAD
        name = read_json(head)["run"] if head.exists() else run_dir.name
        self._objects = Objects(parse_address(storage).child(name), patience_seconds)
        self._name = name
        self._session = ""

    def check(self, resume: bool) -> None:
        """Refuse a storage that cannot be used, before anything starts.

        Raises:
            ValueError: it cannot be reached or read, has a run of this name already, or the run
                to resume went on elsewhere.
        """
        self._objects.check()
        shown = self._objects.address.shown
        try:
            head = read_head(self._objects)
        except StorageError as error:
            raise ValueError(str(error)) from error
        if head is None:
            return
        if not resume:
            raise ValueError(
                f"{shown} exists already: go on with it by --resume '{self._objects.address}', or "
                "name another --run_dir"
            )
        refuse_other(self.run_dir, head, shown)

    def begin(self) -> None:
        """Put a new run into the storage.

        Raises:
            ValueError: the storage cannot be written.
        """
        patient, self._objects = self._objects, Objects(self._objects.address)
        try:
            self.push()
        except StorageError as error:
            raise ValueError(str(error)) from error
        finally:
            self._objects = patient

    def fetch_results(self) -> None:
        """Bring the trainings that ended elsewhere, or unnoticed, into the run directory."""
        folder = self.run_dir / run_directory.TRAININGS
        for name in self._objects.list(run_directory.TRAININGS, recursive=False):
            key = name.rpartition("/")[2]
            if not (folder / check_name(key) / run_directory.RESULT).exists():
                self.fetch(folder / key)

    def fetch(self, folder: Path) -> None:
        """Bring a training's folder of the run directory up to date, but for what it went on from.

        Raises:
            ValueError: an object is damaged or missing.
            StorageError: the storage is lost.
        """
        self.training(folder).pull(folder, skip=(run_directory.LAST_CHECKPOINT,))

    def collect(self, folder: Path) -> None:
        """Fetch a training that has ended; one whose objects are damaged has failed.

        Raises:
            StorageError: the storage is lost.
        """
        try:
            self.fetch(folder)
        except ValueError as error:
            record_failure(folder, error)

    def training(self, folder: Path) -> StoredTraining:
        """Return a training in the storage by its folder of the run directory."""
        return StoredTraining(self._objects.child(f"{run_directory.TRAININGS}/{folder.name}"))

    def address_of(self, folder: Path) -> str:
        """Return the address of a training by its folder of the run directory."""
        return str(self._objects.address.child(f"{run_directory.TRAININGS}/{folder.name}"))

    def ask_to_stop(self, folder: Path) -> None:
        """Ask a training to stop after its epoch."""
        self.training(folder).put_mark(run_directory.STOP)

    def on_start(self, training: Training) -> None:
        """Keep what the plan decided before anybody acts on it."""
        self.push()

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Do nothing: the worker keeps its epochs."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        """Keep what the plan made of an end."""
        self.push()

    def push(self, whole: bool = False) -> None:
        """Copy what has changed of the run directory into the storage.

        Args:
            whole: with tables, figures and predictions, which change at the end only.

        Raises:
            StorageError: the storage is lost, or the run was taken over by another process.
        """
        pushed_path = self.run_dir / PUSHED
        pushed: dict[str, str] = read_json(pushed_path) if pushed_path.exists() else {}
        with _files_to_keep(self.run_dir, whole) as files:
            sums = {name: hash_file(path) for name, path in files.items()}
            changed = [name for name, value in sums.items() if pushed.get(name) != value]
            if changed:
                self._take_the_lead()
                each_of(lambda name: self._objects.put(name, files[name].read_bytes()), changed)
                write_json(pushed_path, pushed | sums)
        if whole:
            self._push_marks()

    def _push_marks(self) -> None:
        """Keep what was made of trainings after their end."""
        name = run_directory.CLOSED_TEST
        for path in self.run_dir.glob(f"{run_directory.TRAININGS}/*/{name}"):
            stored = self.training(path.parent)
            if stored.get_mark(name) != path.read_bytes():
                stored.put_mark(name, path.read_bytes())

    def _take_the_lead(self) -> None:
        """Write the head once; refuse to go on where another process has done so since."""
        head = read_head(self._objects)
        if self._session:
            if head is None or head["session"] != self._session:
                raise StorageError(
                    f"{self._objects.address.shown} was taken over by another process"
                    + (f" on {head['host']} at {head['time']}" if head else "")
                )
            return
        local = self.run_dir / HEAD
        earlier = read_json(local)["sessions"] if local.exists() else []
        self._session = uuid.uuid4().hex
        said = {
            "run": self._name,
            "session": self._session,
            "sessions": [*earlier, self._session],
            "host": socket.gethostname(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_json(local, said)  # first here: a kill in between leaves a head that is known
        self._objects.put(HEAD, json.dumps(said, indent=2).encode())


@contextlib.contextmanager
def _files_to_keep(run_dir: Path, whole: bool) -> Iterator[dict[str, Path]]:
    """Give the files of a run to keep by name; a study is given as a consistent copy."""
    with tempfile.TemporaryDirectory(prefix="busi_tune-") as scratch:
        files = {}
        for path in _walk(run_dir, _GROWING_FOLDERS if not whole else None):
            name = path.relative_to(run_dir).as_posix()
            if path.suffix == ".db":
                copy = Path(scratch) / name.replace("/", "-")
                backup_study(path, copy)
                path = copy
            files[name] = path
        yield files


def _walk(run_dir: Path, folders: Collection[str] | None) -> Iterator[Path]:
    for path in sorted(run_dir.iterdir()):
        if path.is_dir() and path.name != run_directory.TRAININGS:
            if folders is None or path.name in folders:
                yield from (each for each in sorted(path.rglob("*")) if _is_kept(each))
        elif _is_kept(path):
            yield path


def _is_kept(path: Path) -> bool:
    own = (HEAD, run_directory.LOCK)
    endings = (".backup.db", "-wal", "-shm")  # SQLite's, and the copies that lie beside a study
    hidden = path.name.startswith(".") or path.name in own
    return path.is_file() and not hidden and not path.name.endswith(endings)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content; of a study's, whose bytes change with each copy."""
    if path.suffix != ".db":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
