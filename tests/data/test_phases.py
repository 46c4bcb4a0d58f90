import sys

import pytest

from busi_tune.data.phases import SECONDS_BETWEEN_LINES, Phases


def count(phases: Phases, seconds: list[float], num_items: int, now: float) -> None:
    with phases as show:
        for done in range(1, num_items + 1):
            seconds[0] += now
            show("decode", done, num_items)


def test_off_a_terminal_a_long_phase_says_what_is_left_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = [0.0]
    count(Phases(lambda: seconds[0]), seconds, num_items=4, now=SECONDS_BETWEEN_LINES + 1)
    assert capsys.readouterr().err.splitlines() == [
        "decode: 1 of 4, about 93 s left",
        "decode: 2 of 4, about 62 s left",
        "decode: 3 of 4, about 31 s left",
        "decode: 4 in 124 s",
    ]


@pytest.mark.parametrize(("now", "said"), [(0.05, ["decode: 100 in 5 s"]), (0.001, [])])
def test_off_a_terminal_a_short_phase_is_a_single_line_or_none(
    capsys: pytest.CaptureFixture[str], now: float, said: list[str]
) -> None:
    seconds = [0.0]
    count(Phases(lambda: seconds[0]), seconds, num_items=100, now=now)
    assert capsys.readouterr().err.splitlines() == said


def test_on_a_terminal_one_line_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seconds = [0.0]
    count(Phases(lambda: seconds[0]), seconds, num_items=3, now=1.0)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert [line.strip() for line in said.split("\r")[1:]] == [
        "decode: 1 of 3, about 2 s left", "decode: 2 of 3, about 1 s left", "decode: 3 in 3 s",
    ]  # fmt: skip


def test_what_went_before_is_none_of_a_phases_time(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [0.0]
    with Phases(lambda: seconds[0]) as show:
        for done, now in ((0, 1000.0), (1, 1040.0), (2, 1080.0)):
            seconds[0] = now
            show("test part", done, 2)
    assert capsys.readouterr().err.splitlines() == [
        "test part: 1 of 2, about 40 s left", "test part: 2 in 80 s",
    ]  # fmt: skip
