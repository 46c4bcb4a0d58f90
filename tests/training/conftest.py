"""Fixtures of the training's tests."""

from collections.abc import Iterator

import pytest
import torch

from busi_tune.models import ARCHITECTURES
from tests.training.small_training import NETWORKS


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny networks, known by name."""
    for name, builder in NETWORKS.items():
        monkeypatch.setitem(ARCHITECTURES, name, builder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The same bits on every machine and less noise beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
