"""The token of a cluster on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

from busi_tune.orchestration.token import make_token

pytestmark = pytest.mark.ray


def test_a_token_is_made_once_and_for_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_token()
    token = tmp_path / ".ray" / "auth_token"
    made = token.read_text()
    assert len(made) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    make_token()
    assert token.read_text() == made
    assert list(token.parent.iterdir()) == [token]


def test_runs_that_start_together_share_the_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    code = (
        "import sys; from pathlib import Path; "
        "from busi_tune.orchestration.token import make_token; "
        "print('ready', flush=True); sys.stdin.readline(); make_token(); "
        "print((Path.home() / '.ray' / 'auth_token').read_text())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    assert len({run.communicate(timeout=60)[0] for run in runs}) == 1


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_that_is_named_elsewhere_is_left_to_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "named")
    make_token()
    assert not (tmp_path / ".ray").exists()
