"""`training.compile` with compilers that need none, and with broken ones."""

import logging
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from busi_tune.models import ARCHITECTURES
from busi_tune.training import learner
from busi_tune.training.loop import fit
from tests.training.small_training import (
    SPLIT,
    Recorder,
    assert_same_weights,
    best_weights,
    make_config,
    make_images,
    without_clock,
)

pytestmark = pytest.mark.usefixtures("networks", "one_thread")

COMPILER = shutil.which("g++") and Path(sysconfig.get_path("include"), "Python.h").exists()
CONFIG = make_config(training__compile=True, training__epochs=2)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A training that is not compiled."""
    result = fit(
        make_config(training__epochs=CONFIG.training.epochs), make_images(), SPLIT, tmp_path / "p"
    )
    assert not result.compiled
    return tmp_path / "p"


class Broken:
    """A compiler that fails, or whose code does, and how often it was called."""

    def __init__(self, in_its_code: bool) -> None:
        self.in_its_code, self.calls = in_its_code, 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.calls += 1
        if not self.in_its_code:
            raise RuntimeError("no C++ compiler found\nand a long story")
        return self.run

    def run(self, *arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler found")


def test_a_compiled_training_has_the_same_result_and_plain_checkpoints(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(learner, "BACKEND", keep)
    result = fit(CONFIG, make_images(), SPLIT, tmp_path)
    assert result.compiled and graphs
    assert_same_weights(best_weights(plain), best_weights(tmp_path))


# The compiler looks at attributes of every module, also at those that warn of their end.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.skipif(
    not COMPILER, reason="no C++ compiler, or no headers of Python: apt install g++ python3-dev"
)
def test_the_default_compiler_trains_to_nearly_the_same_weights(tmp_path: Path) -> None:
    assert learner.BACKEND == "inductor"
    # Without dropout, whose draws are the compiler's own; batches of one size are compiled once.
    config = make_config(
        model__architecture="plain", training__batch_size=5, training__accumulate=1,
        training__epochs=1, training__compile=True,
    )  # fmt: skip
    assert fit(config, make_images(), SPLIT, tmp_path / "compiled").compiled
    config.training.compile = False
    assert not fit(config, make_images(), SPLIT, tmp_path / "plain").compiled
    compiled, plain = (best_weights(tmp_path / name) for name in ("compiled", "plain"))
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name], weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("in_its_code", [False, True])
def test_where_compiling_fails_the_network_runs_as_it_is_and_says_so(
    plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    in_its_code: bool,
) -> None:
    broken = Broken(in_its_code)
    monkeypatch.setattr(learner, "BACKEND", broken)
    with caplog.at_level(logging.WARNING, logger="busi_tune"):
        result = fit(CONFIG, make_images(), SPLIT, tmp_path)
    [said] = [record.message for record in caplog.records if record.name.startswith("busi_tune")]
    assert said.startswith("training.compile: the network runs as it is") and "\n" not in said
    assert "no C++ compiler found" in said
    assert not result.compiled and broken.calls == 1
    assert_same_weights(best_weights(plain), best_weights(tmp_path))


def test_a_resumed_training_does_not_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "BACKEND", Broken(in_its_code=False))
    whole = fit(CONFIG, make_images(), SPLIT, tmp_path / "whole")
    folder = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, make_images(), SPLIT, folder, Recorder(folder, break_at=1))
    monkeypatch.setattr(learner, "BACKEND", "eager")
    resumed = fit(CONFIG, make_images(), SPLIT, folder)
    assert without_clock(vars(resumed)) == without_clock(vars(whole))
    assert_same_weights(best_weights(tmp_path / "whole"), best_weights(folder))


def test_an_error_of_the_network_itself_is_raised_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 1, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images)

    monkeypatch.setattr(learner, "BACKEND", "eager")
    monkeypatch.setitem(ARCHITECTURES, "noisy", lambda _: Wrong())
    with pytest.raises(RuntimeError, match=r"expected input.* to have 2 channels"):
        fit(CONFIG, make_images(), SPLIT, tmp_path)
