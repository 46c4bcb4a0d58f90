"""The contract between a plan and the cluster, over trainings that cost nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from busi_tune.command_line import ClusterError
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.full_disk import find_full_disk
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import FollowedPlan, JoinedPlan, ListPlan, Outcome, Training
from tests.orchestration.conftest import Make, Notes, Splits, config_with, make_fit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def result_of(training: Training) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((training.folder / "result.json").read_text())
    return content


def test_every_training_runs_once_and_every_epoch_is_heard_in_order(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    trainings = make_trainings(6, config_with())
    plan = ListPlan(trainings)
    run_plan(plan, images, splits, ResourcesConfig(), notes, make_fit())
    assert plan.num_open() == 0
    assert sorted(notes.started) == [training.name for training in trainings]
    for training in trainings:
        heard = [epoch for name, epoch in notes.epochs if name == training.name]
        assert heard == [1, 2, 3]
        assert notes.ended[training.name] == "finished"


def test_one_training_follows_the_other_in_the_same_process(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import os

        (folder / "process").write_text(str(os.getpid()))

    trainings = make_trainings(3, config_with(training__epochs=1))
    resources = ResourcesConfig(max_concurrent=1)
    run_plan(ListPlan(trainings), images, splits, resources, notes, make_fit(body))
    assert len({(training.folder / "process").read_text() for training in trainings}) == 1


class ForgetfulPlan(ListPlan):
    """Fails at the end of a training."""

    def on_end(self, training: Training, outcome: Outcome) -> None:
        raise RuntimeError("the study is gone")


def test_an_end_that_cannot_be_noted_breaks_the_run_off_with_its_reason(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    plan = ForgetfulPlan(make_trainings(1, config_with()))
    with pytest.raises(ClusterError, match=r"the end of training 0 .* the study is gone"):
        run_plan(plan, images, splits, ResourcesConfig(), notes, make_fit())


class StoppingPlan(ListPlan):
    """Asks every training to stop after its first epoch."""

    def on_epoch(self, training: Training, metrics: Mapping[str, float]) -> bool:
        return True


def test_a_training_that_should_stop_ends_itself_at_once(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    trainings = make_trainings(3, config_with())
    run_plan(StoppingPlan(trainings), images, splits, ResourcesConfig(), notes, make_fit())
    assert [result_of(training)["epochs"] for training in trainings] == [1, 1, 1]
    assert set(notes.ended.values()) == {"pruned"}


@pytest.mark.slow
def test_a_training_that_waits_for_another_runs_after_it_and_others_meanwhile(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    """As a nested search does: winners follow their trials, models fill the slots."""
    trainings = make_trainings(5, config_with(training__epochs=1))
    first, second, follower, nothing, other = trainings

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import time

        deadline = time.monotonic() + 240
        # The first ends some time after the last of all others, which must not wait for it.
        if folder.name == "0":
            while not (folder.parent / "4" / "result.json").exists():
                assert time.monotonic() < deadline, "a slot was idle"
                time.sleep(0.05)
            time.sleep(1)

    plan = JoinedPlan(
        [
            FollowedPlan(ListPlan([first, second]), lambda: [follower]),
            FollowedPlan(ListPlan([nothing]), lambda: []),
            ListPlan([other]),
        ]
    )
    assert plan.num_open() == 6
    resources = ResourcesConfig(max_concurrent=2)
    run_plan(plan, images, splits, resources, notes, make_fit(body))
    assert plan.num_open() == 0
    assert sorted(notes.started) == [training.name for training in trainings]
    assert set(notes.ended.values()) == {"finished"}, notes.reasons


def test_an_exception_fails_its_training_alone_and_is_not_repeated(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    trainings = make_trainings(3, config_with())

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        if folder.name == "1" and epoch == 2:
            with (folder / "tries").open("a") as file:
                file.write("x")
            raise FloatingPointError("the loss is nan in epoch 2")

    run_plan(ListPlan(trainings), images, splits, ResourcesConfig(), notes, make_fit(body))
    assert notes.ended == {
        "training 0": "finished",
        "training 1": "failed",
        "training 2": "finished",
    }
    assert notes.reasons["training 1"] == "FloatingPointError: the loss is nan in epoch 2"
    assert (trainings[1].folder / "tries").read_text() == "x"


def test_a_killed_worker_is_replaced_and_goes_on_from_its_last_epoch(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    trainings = make_trainings(2, config_with())

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import os
        import signal

        if folder.name == "0" and epoch == 2 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run_plan(ListPlan(trainings), images, splits, ResourcesConfig(), notes, make_fit(body))
    assert set(notes.ended.values()) == {"finished"}
    assert result_of(trainings[0])["first_epoch"] == 2
    assert result_of(trainings[1])["first_epoch"] == 1


def test_a_worker_that_dies_too_often_fails_its_training(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    resources = ResourcesConfig(max_failures=0)
    plan = ListPlan(make_trainings(1, config_with()))
    run_plan(plan, images, splits, resources, notes, make_fit(body))
    assert notes.reasons == {"training 0": "its worker died (killed or out of memory), once"}


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_full_disk_breaks_the_run_off_and_fails_nothing(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes, num_workers: int
) -> None:
    trainings = make_trainings(1, config_with(resources__num_workers=num_workers))

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import errno

        if epoch == 2 and not (folder / "space").exists():
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise RuntimeError("a library says it in its own way") from error

    resources = ResourcesConfig(num_workers=num_workers)
    plan = ListPlan(trainings)
    with pytest.raises(ClusterError) as caught:
        run_plan(plan, images, splits, resources, notes, make_fit(body))
    full = find_full_disk(caught.value)
    assert full is not None
    assert getattr(full, "filename", "") == str(trainings[0].folder)
    assert notes.ended == {}
    assert plan.num_open() == 1
    assert not (trainings[0].folder / "failure.json").exists()
    if num_workers == 1:
        (trainings[0].folder / "space").touch()
        run_plan(ListPlan(trainings), images, splits, resources, notes, make_fit(body))
        assert notes.ended == {"training 0": "finished"}
        assert result_of(trainings[0])["first_epoch"] == 2


@pytest.mark.slow
def test_trainings_at_a_time_share_one_copy_of_the_images(
    images: ImageSet, splits: Splits, make_trainings: Make, notes: Notes
) -> None:
    """Each training maps the object store's pages: read-only, and at one address of one file."""
    trainings = make_trainings(2, config_with(training__epochs=1))

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        import os
        import time

        address = images.images.__array_interface__["data"][0]
        for line in open("/proc/self/maps"):  # noqa: SIM115, PTH123
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                offset = int(line.split()[2], 16) + address - start
                place = f"{line.split()[4]} {offset}"
        (folder / "place").write_text(f"{place} {images.images.flags.writeable} {os.getpid()}")
        deadline = time.monotonic() + 240
        while not all((folder.parent / f / "place").exists() for f in ("0", "1")):
            assert time.monotonic() < deadline, "the trainings did not run at the same time"
            time.sleep(0.05)

    large = images.__class__(**(vars(images) | {"images": images.images.repeat(40_000, axis=0)}))
    run_plan(ListPlan(trainings), large, splits, ResourcesConfig(), notes, make_fit(body))
    assert set(notes.ended.values()) == {"finished"}, notes.reasons
    places = [(training.folder / "place").read_text().split() for training in trainings]
    assert places[0][:2] == places[1][:2]
    assert places[0][2] == places[1][2] == "False"
    assert places[0][3] != places[1][3]
