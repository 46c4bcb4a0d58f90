"""A search, some of whose trials run out of memory or are killed each time they start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from busi_tune.command_line import SOME_FAILED, parse
from busi_tune.jobs.search import run_search
from busi_tune.orchestration import tuning
from busi_tune.search import COMMAND
from tests.processes import TINY

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("cluster")]

# Images for which there is memory, of batches of 8, by learning rate.
FITTING = {0.001: 0, 0.002: 8, 0.003: 4, 0.004: 8}
KILLED = 0.002


def make_short_of_memory(fitting: dict[float, int], killed: float) -> Callable[..., Any]:
    """Return a fit with as much memory as the learning rate says; for one it dies at its start.

    Nested, so that it travels to the workers by value.
    """

    def fit_in_little_memory(config: Any, *others: Any) -> Any:
        import os
        import signal
        from unittest import mock

        import torch
        from torch.nn import functional

        from busi_tune.training.loop import fit

        convolve, lr = functional.conv2d, config.optimizer.lr

        def convolve_few(batch: Any, *weights: Any, **named: Any) -> Any:
            if len(batch) > fitting[lr]:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return convolve(batch, *weights, **named)

        if lr == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        with mock.patch.object(functional, "conv2d", convolve_few):
            return fit(config, *others)

    return fit_in_little_memory


def test_trials_without_memory_fail_with_their_reasons_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_plan = tuning.run_plan

    def run_standing_in(*arguments: Any) -> None:
        *before, _, shared, storage, name = arguments
        run_plan(*before, make_short_of_memory(FITTING, KILLED), shared, storage, name)

    monkeypatch.setattr(tuning, "run_plan", run_standing_in)
    starts = [tmp_path / f"{lr}.yaml" for lr in FITTING]
    for lr, path in zip(FITTING, starts, strict=True):
        path.write_text(f"optimizer: {{lr: {lr}}}\n")
    arguments = [*TINY, "--training.epochs=1", "--search.num_trials=4", "--search.refit=0"]
    arguments += [
        "--search.pruner=none",
        '--search.space={"optimizer.lr": [0.001, 0.002, 0.003, 0.004]}',
    ]
    arguments += [f"--search.start=[{','.join(map(str, starts))}]", "--resources.max_failures=1"]
    assert run_search(parse(COMMAND, [*arguments, f"--run_dir={tmp_path / 'run'}"])) == SOME_FAILED

    trials = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert trials["optimizer.lr"].tolist() == list(FITTING)
    assert trials["state"].tolist() == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert "single image does not fit into the device's memory" in trials["reason"][0]
    assert trials["reason"][1] == "its worker died (killed or out of memory), 2 times"
    assert trials["micro_batches"].tolist()[2:] == [2, 1]
    for number in (0, 1):
        assert f"trial {number} failed: {trials['reason'][number]}" in caplog.messages
    split = "trial 2: out of memory: batches of the training run in 2 parts from here on"
    assert caplog.messages.count(split) == 1
    assert (tmp_path / "run" / "report.html").exists()
