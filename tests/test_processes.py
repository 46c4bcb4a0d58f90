"""A command that does not end as it should is shown with all that it said."""

import subprocess
from pathlib import Path

import pytest

from tests.processes import wait_for_end


@pytest.mark.parametrize(
    ("then", "seconds", "said"),
    [
        ("exit 3", 60, "it ended with 3:\nsaid late"),
        ("exec sleep 60", 4, "did not end within 4 s:\nsaid late"),
    ],
)
def test_what_was_said_until_the_failure_is_part_of_it(
    tmp_path: Path, then: str, seconds: float, said: str
) -> None:
    log = tmp_path / "log"
    log.touch()
    command = ["sh", "-c", f"sleep 0.3; echo said late >> '{log}'; {then}"]
    with subprocess.Popen(command) as process:
        with pytest.raises(AssertionError, match=said):
            wait_for_end(process, log, seconds)
        process.kill()
