"""What a worker looks at before it trains."""

import pytest
import ray
import torch

from busi_tune.config import Config
from busi_tune.orchestration.worker import _real_fit


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
