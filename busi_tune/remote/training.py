"""A training's folder in the storage.

Its files lie as objects whose names end with a part of their checksum; `manifest.json`, written
last, says which of them make up the folder. So an epoch of which only a part came through is never
taken for one. Marks lie beside it as they are: each is one object, and not the training's own.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from busi_tune import run_directory
from busi_tune.remote.objects import Objects, StorageError, check_name, each_of
from busi_tune.run_directory import write_atomic

MANIFEST = "manifest.json"
MARKS = (run_directory.STOP, run_directory.FAILURE, run_directory.CLOSED_TEST)
CHECKPOINTS = (run_directory.LAST_CHECKPOINT, run_directory.BEST_CHECKPOINT)
_UNKEPT = (*MARKS, run_directory.LOCK)
_LOOKS = 5
"""How often to look again where another process changed the folder while it was read."""
_POLL_SECONDS = 5.0
_OTHERS_SECONDS = 24 * 3600.0

Owner = tuple[int, str]


class SupersededError(StorageError):
    """A later attempt at the same training has taken it over."""


@dataclass(frozen=True)
class Entry:
    """A file of the folder."""

    name: str
    sha256: str
    size: int
    """Bytes."""

    @property
    def object(self) -> str:
        """The name of its object."""
        return f"{self.name}~{self.sha256[:16]}"


@dataclass(frozen=True)
class Manifest:
    """What makes up the folder, and who writes it."""

    owner: Owner = (0, "")
    files: dict[str, Entry] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether the training has a result."""
        return run_directory.RESULT in self.files

    def to_json(self) -> bytes:
        """Return the manifest as it is stored."""
        files = {
            entry.name: {"sha256": entry.sha256, "bytes": entry.size}
            for entry in self.files.values()
        }
        return json.dumps({"owner": self.owner, "files": files}, indent=1).encode()


class StoredTraining:
    """A training's folder in the storage, as one attempt at the training sees it.

    The latest attempt owns the folder: an orphan of a lost driver that comes back finds out with
    its next epoch, and what it wrote in between counts for nothing.
    """

    def __init__(self, objects: Objects) -> None:
        """Connect to nothing yet; `objects` are those of the training."""
        self._objects = objects
        self._owner: Owner | None = None
        self._sums: dict[Path, tuple[tuple[int, int], str]] = {}

    def claim(self) -> None:
        """Make this attempt the owner, unless the training has ended."""
        stored = self._read()
        if not stored.has_ended:
            self._owner = (stored.owner[0] + 1, uuid.uuid4().hex)
            self._write(Manifest(self._owner, stored.files))

    def pull(self, folder: Path, skip: Collection[str] = ()) -> None:
        """Bring a folder up to date with the storage, its result last.

        Args:
            folder: a training's; files that the storage has not are left alone.
            skip: names of files to leave out.

        Raises:
            ValueError: an object is damaged or missing; says which.
            StorageError: the storage is lost.
        """
        for look in range(_LOOKS):
            stored = self._read()
            wanted = {name: e for name, e in stored.files.items() if name not in skip}
            last = wanted.pop(run_directory.RESULT, None)
            try:
                each_of(lambda name, files=wanted: self._fetch(files[name], folder), list(wanted))  # type: ignore[misc]
                if last is not None:
                    self._fetch(last, folder)
            except ValueError:
                if look + 1 == _LOOKS or self._read() == stored:
                    raise
                continue
            break
        for mark in self._objects.list(recursive=False):
            if mark in MARKS and (content := self._objects.get(mark)) is not None:
                write_atomic(folder / mark, content)

    def push(self, folder: Path) -> None:
        """Bring the storage up to date with a folder, whole or not at all.

        Raises:
            SupersededError: the training belongs to a later attempt, or has ended.
            StorageError: the storage is lost.
        """
        if self._owner is None:
            return  # it had ended when this attempt began
        stored = self._read()
        files = {entry.name: entry for entry in self._describe(folder)}
        if stored.owner == self._owner and stored.files == files:
            return
        if stored.owner > self._owner or stored.has_ended:
            raise SupersededError(f"{folder.name} was taken over by another process")
        # What an earlier owner wrote late may have removed what this one had found.
        known = stored.files if stored.owner == self._owner else {}
        changed = [name for name, entry in files.items() if known.get(name) != entry]
        each_of(lambda name: self._send(files[name], folder), changed)
        self._write(Manifest(self._owner, files))
        if run_directory.RESULT in files:
            self._sweep(files)
        else:
            self._remove(stored, files)

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of a training that has ended."""
        stored = self._read()
        files = {name: e for name, e in stored.files.items() if name not in CHECKPOINTS}
        if files != stored.files:
            self._write(Manifest(stored.owner, files))
            self._remove(stored, files)

    def put_mark(self, name: str, content: bytes = b"") -> None:
        """Lay a mark beside the files."""
        self._objects.put(name, content)

    def get_mark(self, name: str) -> bytes | None:
        """Return a mark's content; None where it is not there."""
        return self._objects.get(name)

    def remove_mark(self, name: str) -> None:
        """Remove a mark, if it is there."""
        self._objects.delete(name)

    def wait_for_end(self, seconds: float = _OTHERS_SECONDS) -> None:
        """Wait until the attempt that took the training over has ended it.

        Raises:
            StorageError: it has not within so many seconds.
        """
        deadline = time.monotonic() + seconds
        while not (self._read().has_ended or self.get_mark(run_directory.FAILURE)):
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{self._objects.address.shown} belongs to another process, which does not end"
                )
            time.sleep(min(_POLL_SECONDS, seconds))

    def _read(self) -> Manifest:
        content = self._objects.get(MANIFEST)
        if content is None:
            return Manifest()
        try:
            said = json.loads(content)
            number, who = said["owner"]
            files = {
                check_name(name): Entry(name, str(file["sha256"]), int(file["bytes"]))
                for name, file in said["files"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damage(MANIFEST, f"it cannot be read: {error}") from error
        return Manifest((int(number), str(who)), files)

    def _write(self, manifest: Manifest) -> None:
        self._objects.put(MANIFEST, manifest.to_json())

    def _send(self, entry: Entry, folder: Path) -> None:
        self._objects.put(entry.object, (folder / entry.name).read_bytes())

    def _fetch(self, entry: Entry, folder: Path) -> None:
        path = folder / entry.name
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256:
            return
        content = self._objects.get(entry.object, entry.size)
        if content is None:
            raise self._damage(entry.object, "it is missing")
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise self._damage(entry.object, "its checksum does not fit its content")
        write_atomic(path, content)

    def _remove(self, stored: Manifest, files: dict[str, Entry]) -> None:
        kept = {entry.object for entry in files.values()}
        gone = {entry.object for entry in stored.files.values()} - kept
        each_of(self._objects.delete, sorted(gone))

    def _sweep(self, files: dict[str, Entry]) -> None:
        """Remove all that nobody names: what was replaced, and what earlier owners wrote late."""
        kept = {entry.object for entry in files.values()}
        left = [name for name in self._objects.list() if "~" in name and name not in kept]
        each_of(self._objects.delete, left)

    def _describe(self, folder: Path) -> Iterator[Entry]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in _UNKEPT and not path.name.startswith("."):
                status = path.stat()
                stamp = (status.st_mtime_ns, status.st_size)
                if self._sums.get(path, (None, ""))[0] != stamp:
                    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                    self._sums[path] = (stamp, sha256)
                yield Entry(name, self._sums[path][1], status.st_size)

    def _damage(self, name: str, why: str) -> ValueError:
        shown = self._objects.address.shown
        return ValueError(
            f"{shown}/{name} is damaged: {why}; restore it from a copy, or remove all of "
            f"{shown}/ and the training starts from its first epoch"
        )
