"""Trainings on images of several sizes and ways of resizing in one run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from busi_tune.config import Config
from busi_tune.config_jobs import ResourcesConfig
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.orchestration.tuning import run_plan
from busi_tune.plan import ListPlan, Training
from busi_tune.settings import override
from tests.orchestration.conftest import Notes, make_fit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_each_training_has_the_images_of_its_size_and_way(
    images: ImageSet,
    splits: dict[str, Split],
    make_trainings: Callable[..., list[Training]],
    notes: Notes,
    num_workers: int,
) -> None:
    forms = [(8, "stretch"), (16, "stretch"), (16, "letterbox")]
    sets = {
        form: replace(
            images, image_size=form[0], resize=form[1], images=np.full((4, *form[:1] * 2), number)
        )
        for number, form in enumerate(forms)
    }
    base = override(Config(), {"training.epochs": 1, "resources.num_workers": num_workers})
    trainings = [
        replace(training, config=override(base, {"data.image_size": size, "data.resize": way}))
        for training, (size, way) in zip(make_trainings(3, Config()), forms[::-1], strict=True)
    ]

    def body(config: Any, images: Any, split: Any, folder: Path, epoch: int) -> None:
        (folder / "size").write_text(
            f"{images.image_size} {images.resize} {images.images.mean():g}"
        )

    resources = ResourcesConfig(num_workers=num_workers, cpus_per_worker=0.5)
    run_plan(ListPlan(trainings), sets, splits, resources, notes, make_fit(body))
    assert set(notes.ended.values()) == {"finished"}, notes.reasons
    assert [(t.folder / "size").read_text() for t in trainings] == [
        "16 letterbox 2", "16 stretch 1", "8 stretch 0",
    ]  # fmt: skip
