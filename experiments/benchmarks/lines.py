"""Lines of results: what was measured, and when, with what and where."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from busi_tune.run_directory import environment_record

_RECORDED = ("time", "commit", "processor", "cpus", "python")
_PACKAGES = ("torch", "ray", "optuna", "numpy")


def add_line(figures: Mapping[str, Any], out: Path | None) -> list[dict[str, Any]]:
    """Print a line and, where a file is given, append it there; every line of the file."""
    record = environment_record("benchmark", "", 0)
    line = {
        **figures,
        "command": shlex.join(["python", *_program(), *sys.argv[1:]]),
        **{name: record[name] for name in _RECORDED},
        **{name: record["packages"][name] for name in _PACKAGES},
    }
    print(json.dumps(line), flush=True)
    if not out:
        return [line]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return [json.loads(each) for each in out.read_text().splitlines()]


def _program() -> list[str]:
    spec = sys.modules["__main__"].__spec__
    return ["-m", spec.name] if spec else [os.path.relpath(sys.argv[0])]
