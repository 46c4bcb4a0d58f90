"""Where a training works: in its folder, or in a scratch folder that is kept in the storage."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from busi_tune import run_directory
from busi_tune.plan import describe_failure, record_failure
from busi_tune.remote.address import parse_address
from busi_tune.remote.objects import Objects
from busi_tune.remote.training import StoredTraining
from busi_tune.run_directory import read_json
from busi_tune.scratch import scratch_folder


class Workplace(Protocol):
    """What a training on the cluster needs of its folder."""

    def open(self, leads: bool) -> Path:
        """Return the folder to work in; the rank that leads finds there what was kept."""

    def close(self) -> None:
        """Leave nothing on this node that is kept elsewhere."""

    def keep(self) -> None:
        """Keep what the folder has now, where this rank leads."""

    def is_asked_to_stop(self) -> bool:
        """Whether the driver has asked the training to stop."""

    def forget_failure(self) -> None:
        """Forget how an earlier attempt failed."""

    def record_failure(self, error: Exception, retry: bool) -> None:
        """Leave for the driver why the training ended; the first of several ranks tells."""

    def has_failed_for_good(self) -> bool:
        """Whether a failure was recorded that would come again."""

    def wait_for_end(self) -> None:
        """Wait for the attempt that took the training over."""


class SharedFolder:
    """A folder that the driver and all workers see."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, leads: bool) -> Path:
        """Return the folder."""
        return self._folder

    def close(self) -> None:
        """Leave it as it is."""

    def keep(self) -> None:
        """Do nothing: what is written is kept."""

    def is_asked_to_stop(self) -> bool:
        """Look for the driver's file."""
        return (self._folder / run_directory.STOP).exists()

    def forget_failure(self) -> None:
        """Remove its file."""
        (self._folder / run_directory.FAILURE).unlink(missing_ok=True)

    def record_failure(self, error: Exception, retry: bool) -> None:
        """Write its file."""
        record_failure(self._folder, error, retry)

    def has_failed_for_good(self) -> bool:
        """Read its file."""
        failure = self._folder / run_directory.FAILURE
        return failure.exists() and not read_json(failure)["retry"]

    def wait_for_end(self) -> None:
        """Do nothing: `fit` itself waits for the folder's lock."""


class StoredFolder:
    """A scratch folder of this attempt alone on its node, kept in the storage."""

    def __init__(self, uri: str, patience_seconds: float) -> None:
        """Connect to nothing yet.

        Args:
            uri: of the training in the storage.
            patience_seconds: how long a storage that fails is tried again.
        """
        self._stored = StoredTraining(Objects(parse_address(uri), patience_seconds))
        self._stack = ExitStack()
        self._scratch: Path | None = None
        self._leads = False

    def open(self, leads: bool) -> Path:
        """Make the folder; the rank that leads takes the training over and fetches its files."""
        self._leads = leads
        self._scratch = self._stack.enter_context(scratch_folder("training"))
        if leads:
            self._stored.claim()
            self._stored.pull(self._scratch, skip=(run_directory.FAILURE,))
        return self._scratch

    def close(self) -> None:
        """Remove the scratch folder."""
        self._stack.close()

    def keep(self) -> None:
        """Bring the storage up to date."""
        if self._leads and self._scratch is not None:
            self._stored.push(self._scratch)

    def is_asked_to_stop(self) -> bool:
        """Look for the driver's mark; the ranks agree on what the leading one finds."""
        return self._leads and self._stored.get_mark(run_directory.STOP) is not None

    def forget_failure(self) -> None:
        """Remove its mark."""
        self._stored.remove_mark(run_directory.FAILURE)

    def record_failure(self, error: Exception, retry: bool) -> None:
        """Lay its mark."""
        if self._stored.get_mark(run_directory.FAILURE) is None:
            content = json.dumps(describe_failure(error, retry), indent=2) + "\n"
            self._stored.put_mark(run_directory.FAILURE, content.encode())

    def has_failed_for_good(self) -> bool:
        """Read its mark."""
        failure = self._stored.get_mark(run_directory.FAILURE)
        return failure is not None and not json.loads(failure)["retry"]

    def wait_for_end(self) -> None:
        """Wait until the storage has the end that another attempt made."""
        self._stored.wait_for_end()
