"""Nested searches driven by a plain loop instead of a cluster."""

import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.jobs.kfold import make_all_folds, plan_parts
from busi_tune.jobs.nested import (
    FoldSearch,
    NestedSearch,
    check_search,
    export_nested_trials,
    open_searches,
    report_failures,
)
from busi_tune.kfold_models import NESTED
from busi_tune.models import ARCHITECTURES
from busi_tune.plan import JoinedPlan, Training, read_outcome
from busi_tune.settings import override, to_yaml
from tests.training.small_training import NETWORKS, make_images

Train = Callable[[Training, Split], None]


class Killed(Exception):
    """Stands for the death of the driver."""


def make_config(settings: Mapping[str, Any] = MappingProxyType({}), num_trials: int = 2) -> Config:
    search = {
        "search.num_trials": num_trials,
        "search.sampler": "random",
        "search.pruner": "none",
        "search.space": {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
    }
    small = {
        "data.image_size": 16,
        "model.base_width": 2,
        "training.epochs": 1,
        "kfold.num_folds": 2,
    }
    return override(Config(), {**small, **settings, "kfold.search": search})


@pytest.fixture
def images() -> ImageSet:
    return make_images()


def fake(training: Training, split: Split) -> None:
    """Leave a result that depends on the learning rate alone."""
    value = training.config.optimizer.lr
    result = {"status": "finished", "best_value": value, "best_epoch": 1, "epochs": 1}
    (training.folder / run_directory.RESULT).write_text(json.dumps(result))


def drive(
    searches: list[FoldSearch], run_dir: Path, train: Train = fake, num_events: int = 1000
) -> list[Training]:
    """Run all searches with two slots; the driver is killed after some events."""
    started: list[Training] = []
    running: list[Training] = []
    left = iter(range(num_events))

    def event() -> None:
        if next(left, None) is None:
            raise Killed

    def export() -> None:
        export_nested_trials(searches, run_dir)

    plan = JoinedPlan([search.plan(export, lambda: None) for search in searches])
    splits = {s.inner_name: s.inner_split for s in searches} | {s.name: s.split for s in searches}
    while plan.num_open():
        while len(running) < 2 and (training := plan.next_training()):
            training.folder.mkdir(parents=True, exist_ok=True)
            running.append(training)
            started.append(training)
            event()
        training = running.pop(0)
        if not (training.folder / run_directory.RESULT).exists():
            train(training, splits[training.split])
            with (training.folder / "marks").open("a") as file:
                file.write("x")
        event()
        plan.on_epoch(training, {"epoch": 1, "val_dice": 0.1})
        event()
        plan.on_end(training, read_outcome(training.folder))
        event()
    export()
    return started


@functools.cache
def prepare(config: str) -> NestedSearch | None:
    """Check a search, once for all tests."""
    return check_search(override(Config(), yaml.safe_load(config)))


def run(
    config: Config, images: ImageSet, run_dir: Path, train: Train = fake, num_events: int = 1000
) -> list[Training]:
    """Open the searches of a run, or take them up, and drive them."""
    run_dir.mkdir(exist_ok=True)
    with open_searches(
        prepare(to_yaml(config)), make_all_folds(images, config), images, run_dir
    ) as searches:
        return drive(searches, run_dir, train, num_events)


def trials_of(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / run_directory.NESTED_TRIALS)


def test_every_fold_has_its_own_search_and_then_its_winner(
    tmp_path: Path, images: ImageSet
) -> None:
    splits: dict[str, Split] = {}

    def train(training: Training, split: Split) -> None:
        splits[training.name] = split
        fake(training, split)

    config = make_config(num_trials=3)
    started = run(config, images, tmp_path, train)
    folds = make_all_folds(images, config)
    assert Counter(training.identity.get("model", "trial") for training in started) == {
        "trial": 6,
        NESTED: 2,
    }
    for name, split in splits.items():
        fold = folds[f"repeat-0/fold-{name.rsplit(' ', 1)[-1]}"]
        assert np.array_equal(split.train, fold.train)
        assert np.array_equal(split.validation, fold.validation)
        assert split.test.tolist() == (fold.test.tolist() if name.startswith(NESTED) else [])

    trials = trials_of(tmp_path)
    assert trials[["fold", "trial"]].to_numpy().tolist() == [
        [f, t] for f in (0, 1) for t in range(3)
    ]
    assert trials["optimizer.lr"].nunique() == 6, "the folds' searches draw trials of their own"
    winners = trials[trials["chosen"]]
    assert winners["value"].tolist() == trials.groupby("fold")["value"].max().tolist()
    tested = [t.config.optimizer.lr for t in started if t.identity.get("model") == NESTED]
    assert sorted(tested) == pytest.approx(sorted(winners["optimizer.lr"]))


def test_the_plan_counts_trials_winners_and_models() -> None:
    config = make_config(num_trials=3)
    search = prepare(to_yaml(config))
    beside = plan_parts({"a": config, "b": config}, search, num_folds=5)
    assert [part.num_trainings + part.num_trials for part in beside] == [2 * 5, (3 + 1) * 5]
    assert [list(part.models) for part in beside] == [["a", "b"], ["searched unet"]]
    assert [
        part.num_trainings + part.num_trials for part in plan_parts({}, search, num_folds=5)
    ] == [20]


def test_repeats_change_folds_and_seed(tmp_path: Path, images: ImageSet) -> None:
    config = make_config({"kfold.num_repeats": 2, "seed": 5})
    started = run(config, images, tmp_path)
    winners = [training for training in started if NESTED in training.name]
    assert [(t.identity["repeat"], t.identity["fold"], t.config.seed) for t in winners] == [
        (0, 0, 5), (0, 1, 5), (1, 0, 6), (1, 1, 6)
    ]  # fmt: skip
    assert [t.name for t in winners][2:] == [f"{NESTED} fold {f} repeat 1" for f in (0, 1)]
    assert {path.name for path in (tmp_path / run_directory.STUDIES).iterdir()} == {
        f"repeat-{repeat}-fold-{fold}.db" for repeat in (0, 1) for fold in (0, 1)
    }


def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(
    tmp_path: Path, images: ImageSet
) -> None:
    config, broken = make_config(), tmp_path / "broken"
    run(config, images, tmp_path / "whole")
    kills = 0
    for num_events in itertools.count(1):
        try:
            run(config, images, broken, num_events=num_events)
        except Killed:
            kills += 1
        else:
            break
    assert kills > 5
    whole, pieces = trials_of(tmp_path / "whole"), trials_of(broken)
    pd.testing.assert_frame_equal(pieces, whole, check_exact=True)
    marks = [path.read_text() for path in broken.glob("trainings/*/marks")]
    assert marks == ["x"] * 6, "a finished training was run again"
    assert run(config, images, broken) == []


def test_of_equal_trials_the_earliest_wins(tmp_path: Path, images: ImageSet) -> None:
    def train(training: Training, split: Split) -> None:
        result = {"status": "finished", "best_value": 0.5, "best_epoch": 1, "epochs": 1}
        (training.folder / run_directory.RESULT).write_text(json.dumps(result))

    run(make_config(num_trials=3), images, tmp_path, train)
    trials = trials_of(tmp_path)
    assert trials.loc[trials["chosen"], "trial"].tolist() == [0, 0]


def test_a_fold_whose_trials_all_fail_has_no_winner_and_holds_nothing_up(
    tmp_path: Path, images: ImageSet
) -> None:
    def train(training: Training, split: Split) -> None:
        if "fold 0" in training.name:
            failure = {"reason": "FloatingPointError: the loss is nan", "retry": False}
            (training.folder / run_directory.FAILURE).write_text(json.dumps(failure))
        else:
            fake(training, split)

    config = make_config()
    started = run(config, images, tmp_path, train)
    assert [t.name for t in started if NESTED in t.name] == [f"{NESTED} fold 1"]
    folds = make_all_folds(images, config)
    with open_searches(check_search(config), folds, images, tmp_path) as searches:
        assert report_failures(searches)
        assert not report_failures(searches[1:])


def test_masks_of_the_test_fold_do_not_reach_the_search(
    tmp_path: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from busi_tune.training.loop import fit

    monkeypatch.setitem(ARCHITECTURES, "plain", NETWORKS["plain"])
    config = make_config({"training.device": "cpu", "model.architecture": "plain"})
    noise, test = np.random.default_rng(1), make_all_folds(images, config)["repeat-0/fold-0"].test
    masks, packed = images.masks.copy(), images.packed_masks.copy()
    masks[test] = noise.integers(0, 2, masks[test].shape)
    for index in test:
        where = slice(images.offsets[index], images.offsets[index + 1])
        packed[where] = noise.integers(0, 256, packed[where].shape)
    noisy = dataclasses.replace(images, masks=masks, packed_masks=packed)
    tables = {}
    for name, given in (("true", images), ("noise", noisy)):

        def train(training: Training, split: Split, given: ImageSet = given) -> None:
            fit(training.config, given, split, training.folder)

        started = run(config, given, tmp_path / name, train)
        clock = ["seconds", "milliseconds_per_image"]
        trials = trials_of(tmp_path / name).drop(columns=clock)
        tested = next(t for t in started if t.name == f"{NESTED} fold 0")
        rows = pd.read_csv(tested.folder / run_directory.IMAGES)
        tables[name] = (trials[trials["fold"] == 0], rows.loc[rows["part"] == "test", "dice"])
    pd.testing.assert_frame_equal(tables["true"][0], tables["noise"][0], check_exact=True)
    assert not np.allclose(tables["true"][1], tables["noise"][1])
