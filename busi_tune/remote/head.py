"""Who wrote to a run in the storage last, so that two machines never go on with one run.

`head.json` names the start of the process that leads, and all starts before it. Whoever finds
another there stops.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from busi_tune.remote.objects import Objects
from busi_tune.run_directory import read_json

HEAD = "head.json"


def read_head(objects: Objects) -> dict[str, Any] | None:
    """Return who wrote to a run last; None where there is no run.

    Raises:
        ValueError: it cannot be read.
    """
    content = objects.get(HEAD)
    if content is None:
        return None
    try:
        head: dict[str, Any] = json.loads(content)
        assert {"run", "session", "sessions", "host", "time"} <= head.keys()
    except (ValueError, AssertionError, AttributeError) as error:
        raise ValueError(f"{objects.address.shown}/{HEAD} is damaged: {error}") from error
    return head


def refuse_other(run_dir: Path, head: Mapping[str, Any], shown: str) -> None:
    """Keep a run directory from going on with a run that has gone on elsewhere.

    Raises:
        ValueError: it would.
    """
    local = run_dir / HEAD
    if local.exists() and head["session"] in read_json(local)["sessions"]:
        return
    raise ValueError(
        f"{run_dir} is not what {shown} holds, where {head['host']} wrote last at {head['time']}: "
        f"move {run_dir} away and fetch the run by --resume {shown} (with its ?options)"
    )
