"""What `without_client` needs of Ray; that no client server runs is seen in test_access.py."""

import pytest
from ray.scripts import scripts

from busi_tune.orchestration import without_client


def test_another_version_of_ray_is_refused_rather_than_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(scripts, without_client.SWITCH)
    with pytest.raises(RuntimeError, match=r"use the version of constraints\.txt"):
        without_client.main(["ray", "start", "--head"])


def test_ray_is_told_that_the_client_server_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts, without_client.SWITCH, getattr(scripts, without_client.SWITCH))
    with pytest.raises(SystemExit) as end:
        without_client.main(["ray", "--version"])
    assert end.value.code == 0
    assert "ray, version" in capsys.readouterr().out
    assert isinstance(scripts.get_ray_client_dependency_error(), ImportError)
