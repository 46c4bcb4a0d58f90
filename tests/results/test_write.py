"""How far the writing of tables and figures has come."""

from pathlib import Path

import pytest

from busi_tune.data.cache import ImageSet
from busi_tune.data.phases import Phases
from busi_tune.results.write import write_results

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    calls: list[tuple[str, int, int]] = []
    monkeypatch.setattr(Phases, "__call__", lambda self, *call: calls.append(call))
    return calls


def test_every_table_figure_and_picture_counts(
    kfold_run: Path, images: ImageSet, said: list[tuple[str, int, int]]
) -> None:
    write_results(kfold_run, images)
    steps = [call for call in said if call[0] == "tables and figures"]
    assert len(steps) >= 15
    assert steps == [(steps[0][0], done, len(steps)) for done in range(1, len(steps) + 1)]
    assert said[-1] == ("report", len(images), len(images))


def test_those_of_a_search_count_too(search_run: Path, said: list[tuple[str, int, int]]) -> None:
    write_results(search_run, None)
    assert said == [("tables and figures", done, 7) for done in range(1, 8)]
