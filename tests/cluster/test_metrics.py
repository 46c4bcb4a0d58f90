"""What a run tells Prometheus, and the Grafana dashboard that shows it."""

import json
import re
from pathlib import Path

import pytest

from busi_tune.config import Config
from busi_tune.orchestration.metrics import COUNTERS, GAUGES, Metrics
from busi_tune.plan import Training
from busi_tune.run_directory import write_json
from tests.processes import wait_until

DASHBOARD = Path(__file__).parents[2] / "experiments" / "cluster" / "grafana.json"
EXPORTED = {f"ray_{name}" for name in GAUGES} | {f"ray_{name}_total" for name in COUNTERS}


class Kept:
    """Stands in for Ray's gauge or counter."""

    values: dict[tuple[str, str], float] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.tag_keys)
        self.values[self.name, tags.get("state", "")] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.set(self.values.get((self.name, ""), 0.0) + value, tags)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], float]:
    """The values that Ray is told."""
    values: dict[tuple[str, str], float] = {}
    monkeypatch.setattr(Kept, "values", values)
    for kind in ("Gauge", "Counter"):
        monkeypatch.setattr(f"busi_tune.orchestration.metrics.{kind}", Kept)
    return values


def test_an_epoch_that_is_heard_again_is_counted_once(
    kept: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    metrics = Metrics(Config(), "run")
    fresh, resumed = (
        Training(name, {}, Config(), "only", tmp_path / name) for name in ("fresh", "resumed")
    )
    for training, epochs in ((fresh, (1, 2, 2, 3)), (resumed, (4, 5))):
        metrics.on_start(training)
        for epoch in epochs:
            metrics.on_epoch(training, {"epoch": epoch, "images_per_second": 10.0})
    assert kept["busi_tune_epochs", ""] == 3 + 1
    assert kept["busi_tune_images_per_second", ""] == 20.0


def test_gauges_are_told_again_while_nothing_happens(
    kept: dict[tuple[str, str], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with Metrics(Config(), "run", repeat_seconds=0.01) as metrics:
        metrics.on_start(Training("trial 0", {}, Config(), "only", tmp_path))
        gauges = set(kept)
        assert ("busi_tune_trainings", "running") in gauges
        kept.clear()
        wait_until(lambda: set(kept) == gauges, "the same gauges again", 60)


def test_gauges_are_told_again_after_ray_has_refused_them(
    kept: dict[tuple[str, str], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = []

    def refuse() -> bool:
        if len(refused) < 3:
            refused.append(1)
            raise ValueError("not now")
        return True

    metrics = Metrics(Config(), "run", repeat_seconds=0.01)
    metrics.on_start(Training("trial 0", {}, Config(), "only", tmp_path))
    kept.clear()
    monkeypatch.setattr("ray.is_initialized", refuse)
    with metrics:
        wait_until(lambda: bool(kept), "the gauges", 30)
    assert [record.getMessage() for record in caplog.records] == [
        "Ray could not be told the run's metrics: not now"
    ]


def test_trainings_of_an_earlier_start_are_counted(
    kept: dict[tuple[str, str], float], tmp_path: Path
) -> None:
    ended, under_way = (
        Training(name, {"trial": 0}, Config(), "only", tmp_path / name) for name in ("a", "b")
    )
    write_json(ended.folder / "result.json", {"status": "finished", "best_value": 0.5})
    metrics = Metrics(Config(), "run", [ended, under_way])
    metrics.on_start(under_way)
    states = {state: kept["busi_tune_trainings", state] for state in ("finished", "running")}
    assert states == {"finished": 1, "running": 1}
    assert kept["busi_tune_best_value", ""] == 0.5


def test_the_dashboard_queries_every_metric_and_no_other() -> None:
    text = DASHBOARD.read_text()
    assert set(re.findall(r"ray_\w+", text)) == EXPORTED


def test_the_dashboard_has_what_grafana_requires() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["title"] and board["uid"] and board["schemaVersion"] >= 36
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["type"] in ("stat", "timeseries") and panel["title"]
        place = panel["gridPos"]
        assert set(place) == {"x", "y", "w", "h"} and place["x"] + place["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["refId"] and set(re.findall(r"\$(\w+)", target["expr"])) <= names


def test_the_dashboard_groups_by_tags_that_its_metrics_have() -> None:
    tags = {f"ray_{name}": keys for name, (_, keys) in GAUGES.items()}
    tags |= {f"ray_{name}_total": keys for name, (_, keys) in COUNTERS.items()}
    grouped = re.findall(r" by \(([\w, ]+)\) \((?:rate\()?(\w+)\{", DASHBOARD.read_text())
    assert {name for _, name in grouped} == EXPORTED
    for keys, name in grouped:
        assert set(keys.split(", ")) <= set(tags[name])
