"""Checkpoints that appear whole or not at all and whose damage is noticed.

A file is a line `busi_tune checkpoint <sha256 of the rest>` and torch's own format after it.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from busi_tune.run_directory import write_atomic

_TITLE = b"busi_tune checkpoint "


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomic(path, _TITLE + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto a device; nothing in the file is executed (`weights_only`).

    Raises:
        ValueError: the file is no checkpoint of this project, damaged, or holds more than data.
        FileNotFoundError: there is none.
    """
    content = io.BytesIO(read_checked(path))
    try:
        state = torch.load(content, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    # Who knows the checksum's place can put anything behind it, and what is raised depends on that.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is no checkpoint of data alone: {reason}{_CURE}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} must hold a dict, got {type(state).__name__}{_CURE}")
    return state


def read_checked(path: Path) -> bytes:
    """Return the content of a checkpoint that is whole.

    Raises:
        ValueError: the file is no checkpoint of this project, or damaged.
        FileNotFoundError: there is none.
    """
    header, _, content = path.read_bytes().partition(b"\n")
    if not header.startswith(_TITLE):
        raise ValueError(
            f"{path} is no checkpoint of busi_tune, or its beginning is damaged{_CURE}"
        )
    if hashlib.sha256(content).hexdigest().encode() != header.removeprefix(_TITLE):
        raise ValueError(f"{path} is damaged: its checksum does not fit its content{_CURE}")
    return content


_CURE = "; restore it from a copy, or delete it and the training starts from its first epoch"
