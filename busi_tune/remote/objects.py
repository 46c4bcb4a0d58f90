"""The objects below an address: each whole or not at all, with deadlines, and errors in words.

The service's library tries again by itself, but on Linux waits for ever for an answer.
"""

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, TypeVar

from busi_tune.command_line import ClusterError
from busi_tune.remote.address import Address

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
BYTES_PER_SECOND = 500_000
"""The slowest connection on which large objects are waited for."""
NUM_STREAMS = 8
"""Objects moved at a time."""
_LOOKS = 10
"""How often to read an object again that changed while it was read."""

T = TypeVar("T")


class StorageError(ClusterError):
    """The storage was lost while a run went on; what it has is whole."""


class Objects:
    """The objects below an address; not known to be there before `check`."""

    def __init__(self, address: Address, patience_seconds: float = 0.0) -> None:
        """Connect to nothing yet.

        Args:
            address: the place that names are relative to.
            patience_seconds: how long an operation is tried again where the storage fails.
        """
        self.address = address
        self._patience = patience_seconds

    def child(self, name: str) -> "Objects":
        """Return the objects below a name."""
        return Objects(self.address.child(name), self._patience)

    def check(self) -> None:
        """See within seconds whether the bucket can be read.

        Raises:
            ValueError: it cannot; says what is wrong, where, and what to do.
        """
        from pyarrow.fs import FileType

        bucket, service = self.address.bucket, self.address.service
        try:
            info = _within(ANSWER_SECONDS, lambda: self._files.get_file_info(bucket))
        except OSError as error:
            raise ValueError(f"storage {self.address.shown}: {describe(error, service)}") from error
        if info.type == FileType.NotFound:
            raise ValueError(
                f"storage {self.address.shown}: {service} has no bucket {bucket}; create it, or "
                "correct --storage"
            )

    def get(self, name: str, size: int = 0) -> bytes | None:
        """Return an object's content; None where there is none.

        Args:
            name: of the object.
            size: bytes to wait for, beyond what comes at once.
        """

        return self._try(lambda: self._read(self._path(name)), f"read {name}", size)

    def put(self, name: str, content: bytes) -> None:
        """Write an object, which appears when all of it is there."""

        def write() -> None:
            with self._files.open_output_stream(self._path(name)) as stream:
                stream.write(content)

        self._try(write, f"write {name}", len(content))

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.delete_file(self._path(name))

        self._try(remove, f"remove {name}")

    def list(self, below: str = "", recursive: bool = True) -> dict[str, int]:
        """Return the objects, or the objects and folders that lie right below, with their bytes."""
        from pyarrow.fs import FileSelector, FileType

        base = self._path(below) if below else self.address.path
        selector = FileSelector(base, recursive=recursive, allow_not_found=True)
        found = self._try(lambda: self._files.get_file_info(selector), f"list {below or 'it'}")
        start = len(self.address.path) + 1
        return {
            info.path[start:]: info.size or 0
            for info in found
            if info.type == FileType.File or (not recursive and info.type == FileType.Directory)
        }

    @property
    def _files(self) -> Any:
        return _connect(self.address.bucket, self.address.options)

    def _path(self, name: str) -> str:
        return f"{self.address.path}/{name}"

    def _read(self, path: str) -> bytes | None:
        """Read an object whose content was one and the same from the first request to the last.

        pyarrow asks for the length first, and then for so many bytes: of an object that is written
        anew in between it gives a part, or more than there is.
        """
        try:
            for _ in range(_LOOKS):
                with self._files.open_input_stream(path) as stream:
                    version = stream.metadata()["ETag"]
                    content: bytes = stream.read()
                with self._files.open_input_stream(path) as again:
                    if again.metadata()["ETag"] == version:
                        return content
        except FileNotFoundError:
            return None
        raise OSError("it is written anew whenever it is read")

    def _try(self, operation: Callable[[], T], what: str, size: int = 0) -> T:
        deadline, wait, said = time.monotonic() + self._patience, 0.5, False
        seconds = ANSWER_SECONDS + size / BYTES_PER_SECOND
        while True:
            try:
                return _within(seconds, operation)
            except OSError as error:
                reason = self._explain(error, seconds)
                if time.monotonic() + wait >= deadline:
                    raise StorageError(
                        f"cannot {what} of the storage {self.address.shown}: {reason}"
                    ) from error
                if not said:
                    logger.warning(
                        "storage %s: %s; trying again for up to %g s",
                        self.address.shown,
                        reason,
                        self._patience,
                    )
                    said = True
            time.sleep(wait)
            wait = min(2 * wait, 10.0)

    def _explain(self, error: OSError, seconds: float) -> str:
        """Say why an operation failed; a line that is too slow is told from silence by asking."""
        bucket, service = self.address.bucket, self.address.service
        if isinstance(error, TimeoutError):
            with contextlib.suppress(OSError):
                _within(ANSWER_SECONDS, lambda: self._files.get_file_info(bucket))
                return f"{service} answers, but was not done within {seconds:.0f} s"
        return describe(error, service)


def each_of(operation: Callable[[str], object], names: Iterable[str]) -> None:
    """Do something with several objects at a time; the first error is raised when all are done."""
    with ThreadPoolExecutor(NUM_STREAMS) as pool:
        for done in [pool.submit(operation, name) for name in names]:
            done.result()


def check_name(name: str) -> str:
    """Return a name that was read from the storage and stays below the folder it is meant for.

    Raises:
        ValueError: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        raise ValueError(f"the storage names a file outside of its folder: {name!r}")
    return name


def describe(error: OSError, service: str) -> str:
    """Say what a failure of the storage means and what can be done."""
    text = str(error)
    if isinstance(error, TimeoutError) or "NETWORK_CONNECTION" in text:
        return (
            f"{service} does not answer; check endpoint_override and scheme of --storage, and the "
            "network"
        )
    if any(word in text for word in _REFUSED):
        return (
            f"{service} refuses the credentials, or there are none: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials or a role, on every node, with the "
            "right to list, read, write and delete"
        )
    if "HTTP status 301" in text:
        return f"the bucket lies in another region: add ?region=NAME to --storage ({text})"
    return text.partition(" (Request ID")[0]


_REFUSED = (
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID",
    "INVALID_SIGNATURE", "MISSING_AUTHENTICATION_TOKEN", "HTTP status 401", "HTTP status 403",
)  # fmt: skip


@functools.cache
def _connect(bucket: str, options: tuple[tuple[str, str], ...]) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    chosen = dict(options)
    if not chosen.keys() & {"region", "endpoint_override"}:
        chosen["region"] = resolve_s3_region(bucket)
    return S3FileSystem(
        **{"region": "us-east-1", **chosen},
        connect_timeout=CONNECT_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=3),
        background_writes=False,  # an error is that of the call that caused it
        allow_delayed_open=True,  # a small object takes one request
    )


def _within(seconds: float, operation: Callable[[], T]) -> T:
    """Wait so long for an operation; a thread that never comes back does not hold the process."""
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(operation())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return done.result(timeout=seconds)
