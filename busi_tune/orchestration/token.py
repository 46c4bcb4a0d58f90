"""The token that a cluster on this machine asks for."""

import os
import secrets
import tempfile
from pathlib import Path


def make_token() -> None:
    """Make Ray's token where there is none: readable by its owner alone, and whole from the start.

    Ray itself overwrites the token of another run that starts at the same moment, which locks that
    run out of its own cluster.

    Raises:
        OSError: the token cannot be written.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    mine = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(mine)  # the first one counts
        except OSError:
            if not path.exists():  # a file system without links
                mine.replace(path)
    finally:
        mine.unlink(missing_ok=True)
