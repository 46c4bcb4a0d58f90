"""Scratch folders go with their process, or with the next one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from busi_tune.scratch import scratch_folder

_HOLD = """
import sys
from busi_tune.scratch import scratch_folder
with scratch_folder("test", sys.argv[1]) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_removed_with_what_is_in_it(tmp_path: Path) -> None:
    with scratch_folder("test", tmp_path) as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_sweeps_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, first = fcntl.flock, list[int]()

    def sweep_first(descriptor: int, operation: int) -> None:
        if not first:
            first.append(descriptor)
            (made,) = tmp_path.iterdir()
            made.rmdir()
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", sweep_first)
    with scratch_folder("test", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
        with pytest.raises(BlockingIOError):
            lock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    with scratch_folder("test", tmp_path) as living:
        command = [sys.executable, "-c", _HOLD, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            left = Path(process.stdout.readline().decode().strip())
            assert living.exists()
            process.kill()
        other = tmp_path / "busi_tune-other-"
        other.mkdir()
        assert (left / "file").exists()
        with scratch_folder("test", tmp_path) as mine:
            assert set(tmp_path.iterdir()) == {living, mine, other}
    assert list(tmp_path.iterdir()) == [other]
