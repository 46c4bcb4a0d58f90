"""Batches that do not fit into memory, with networks that hold so many images and no more."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
import torch

from busi_tune.data.batches import DeviceImages
from busi_tune.models import ARCHITECTURES
from busi_tune.training.checkpoint import load_checkpoint
from busi_tune.training.epoch import train_epoch, validate
from busi_tune.training.learner import Learner, build_learner
from busi_tune.training.loop import fit
from tests.training.small_training import (
    CPU,
    SPLIT,
    Greedy,
    Recorder,
    make_config,
    make_images,
    without_clock,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# 10 images in batches of 4, 3 and 3, and steps of 7 and 3.
CONFIG = make_config(
    model__architecture="greedy",
    optimizer__name="sgd",
    training__batch_size=4,
    training__evaluation_batch_size=5,
    training__epochs=3,
)
CLOCK = ["seconds", "images_per_second"]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> "Limit":
    limit = Limit()
    monkeypatch.setitem(ARCHITECTURES, "greedy", lambda _: Greedy(limit.images, limit.where))
    return limit


class Limit:
    images, where = 100, "forward"

    def set(self, images: int, where: str = "forward") -> None:
        self.images, self.where = images, where


def train(epochs: int = 1) -> tuple[Learner, list[dict[str, float]]]:
    learner = build_learner(CONFIG, CPU, steps_per_epoch=2)
    images = DeviceImages(make_images(), CPU)
    found = [
        train_epoch(learner, images, SPLIT.train, CONFIG, epoch) for epoch in range(1, epochs + 1)
    ]
    return learner, found


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("images", "parts"), [(3, 2), (2, 2), (1, 4)])
def test_a_split_batch_moves_the_weights_and_counts_as_a_whole_one(
    limited: Limit, where: str, images: int, parts: int
) -> None:
    whole, expected = train()
    limited.set(images, where)
    split, found = train()
    assert (whole.micro_batches.number, split.micro_batches.number) == (1, parts)
    for weight, other in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(other, weight)
    assert found[0] == pytest.approx(expected[0])


def test_a_split_is_said_once_and_stays(limited: Limit, caplog: pytest.LogCaptureFixture) -> None:
    limited.set(1)
    with caplog.at_level(logging.WARNING):
        learner, _ = train()
        [said] = caplog.messages
        learner.model.seen.clear()
        train_epoch(learner, DeviceImages(make_images(), CPU), SPLIT.train, CONFIG, 2)
    assert said == "out of memory: batches of the training run in 4 parts from here on"
    assert caplog.messages == [said]
    assert learner.model.seen == [1] * 10


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_image_that_does_not_fit_ends_the_training_with_what_helps(
    limited: Limit, where: str
) -> None:
    limited.set(0, where)
    with pytest.raises(torch.OutOfMemoryError, match=r"single image .* data.image_size.*model"):
        train()


def test_batches_of_the_validation_part_are_split_too(limited: Limit) -> None:
    images = DeviceImages(make_images(), CPU)

    def run(network: Greedy) -> dict[str, float]:
        torch.manual_seed(0)
        for weight in network.parameters():
            torch.nn.init.normal_(weight)
        return validate(network, images, SPLIT.validation, CONFIG, 1)

    small = Greedy(limit=2)
    assert run(small) == pytest.approx(run(Greedy(limit=5)))
    # Five images, then in two parts, of which the first has three, then in four.
    assert small.seen == [5, 3, 2, 1, 1, 1]


def test_a_split_training_has_the_same_result_and_tells(limited: Limit, tmp_path: Path) -> None:
    whole = fit(CONFIG, make_images(), SPLIT, tmp_path / "whole")
    limited.set(2)
    split = fit(CONFIG, make_images(), SPLIT, tmp_path / "split")
    assert (whole.micro_batches, split.micro_batches) == (1, 2)
    assert json.loads((tmp_path / "split" / "result.json").read_text())["micro_batches"] == 2
    for name in ("epochs.csv", "images.csv"):
        one, other = (pd.read_csv(tmp_path / f / name) for f in ("whole", "split"))
        columns = [column for column in one if column not in CLOCK]
        pd.testing.assert_frame_equal(one[columns], other[columns], rtol=1e-4)


def test_a_resumed_training_goes_on_in_as_many_parts(limited: Limit, tmp_path: Path) -> None:
    limited.set(1)
    whole = fit(CONFIG, make_images(), SPLIT, tmp_path / "whole")
    folder = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, make_images(), SPLIT, folder, Recorder(folder, break_at=2))
    limited.set(100)
    resumed = fit(CONFIG, make_images(), SPLIT, folder)
    assert without_clock(vars(resumed)) == without_clock(vars(whole))
    assert resumed.micro_batches == 4
    states = [
        load_checkpoint(path / "best.ckpt", CPU)["model"] for path in (tmp_path / "whole", folder)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
