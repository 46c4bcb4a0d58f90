"""The study of a search as optuna-dashboard reads it, through its own web application."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from busi_tune.config import Config
from busi_tune.settings import override
from busi_tune.study.storage import STUDY_NAME, open_study


def ask(app: Any, path: str) -> Any:
    """Ask a WSGI application, as a web server would, and read its JSON."""
    heard: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": True,
    }
    body = b"".join(app(environ, lambda status, headers, *rest: heard.append(status)))
    assert heard[0].startswith("200"), (heard, body)
    return json.loads(body)


@contextlib.contextmanager
def open_dashboard(study: Path) -> Iterator[Any]:
    """Open the dashboard on a study."""
    from optuna_dashboard import wsgi

    storage = optuna.storages.RDBStorage(f"sqlite:///{study}")
    yield wsgi(storage)
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Any]:
    """The dashboard on the study of a search that is still open elsewhere."""
    path = tmp_path / "study.db"
    config = override(Config(), {"search.sampler": "random"})
    with open_study(path, config) as study:
        for value in (0.5, 0.75):
            trial = study.ask()
            trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
            trial.report(value / 2, step=1)
            study.tell(trial, value)
        pruned = study.ask()
        pruned.report(0.1, step=1)
        study.tell(pruned, state=optuna.trial.TrialState.PRUNED)
        study.ask()
        assert (tmp_path / "study.db-wal").exists()
        with open_dashboard(path) as app:
            yield app


def test_the_dashboard_shows_the_study_and_its_trials_while_the_search_runs(dashboard: Any) -> None:
    (summary,) = ask(dashboard, "/api/studies")["study_summaries"]
    assert summary["study_name"] == STUDY_NAME
    assert summary["directions"] == ["maximize"]
    detail = ask(dashboard, f"/api/studies/{summary['study_id']}")
    trials = detail["trials"]
    assert [each["state"] for each in trials] == ["Complete", "Complete", "Pruned", "Running"]
    assert [each.get("values") for each in trials[:2]] == [[0.5], [0.75]]
    assert trials[1]["intermediate_values"] == [{"step": 1, "value": 0.375}]
    assert trials[0]["params"][0]["name"] == "optimizer.lr"
    assert [each["number"] for each in detail["best_trials"]] == [1]
