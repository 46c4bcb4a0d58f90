"""What a worker looks at before it trains."""

from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.worker import _real_fit, to_message, work
from busi_tune.plan import Training


def test_a_gpu_that_torch_cannot_use_is_no_reason_to_train_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [0])
    with pytest.raises(ValueError, match=r"newer NVIDIA driver .* resources\.gpus_per_worker 0"):
        _real_fit(Config())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert callable(_real_fit(Config()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray, "get_gpu_ids", list)
    assert callable(_real_fit(Config()))


def test_a_worker_tells_its_place_before_all_else(
    make_trainings: Callable[..., list[Training]],
    images: ImageSet,
    splits: dict[str, Split],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.1")
    (training,) = make_trainings(1, Config())
    training.folder.mkdir()
    reports: list[Any] = []  # of both ways

    def fit(*_: object) -> None:
        reports.append("it trains")

    stored: Any = {8: images}
    work(to_message(training), stored, splits, fit, reports.append, reports.append)
    assert reports == [{"place": "10.0.0.1"}, "it trains"]
