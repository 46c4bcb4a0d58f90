"""The end of a search: refits with fresh seeds, the winner, and the closed test part."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.evaluation.counts import COUNTS, compute_metrics
from busi_tune.jobs.refit import Refits, refit_seed, refit_splits, without_test
from busi_tune.jobs.search import make_closed, make_splits
from busi_tune.run_directory import write_json
from busi_tune.settings import override
from busi_tune.study.starts import Known
from busi_tune.training.loop import fit
from tests.training.small_training import make_images

SMALL = {
    "data.image_size": 16, "model.base_width": 2, "training.epochs": 1, "search.refit": 2,
    "search.refit_seeds": 2, "training.batch_size": 4,
}  # fmt: skip
VALUES = [0.5, 0.9, 0.7, 0.8]


def make_config(settings: Mapping[str, Any] = MappingProxyType({})) -> Config:
    return override(Config(), {**SMALL, **settings})


@pytest.fixture
def images() -> ImageSet:
    return make_images()


def make_study(direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for number, value in enumerate(VALUES):
        trial = study.ask()
        trial.set_user_attr("settings", {"optimizer.lr": 1e-3 * (number + 1)})
        study.tell(trial, value)
    return study


def make_refits(
    images: ImageSet, folder: Path, config: Config | None = None, direction: str = "maximize"
) -> Refits:
    config = config or make_config()
    splits = make_splits(images, config)
    refitted = {name: split for name, split in splits.items() if name.startswith("refit-")}
    baselines = {"known": override(config, {"optimizer.lr": 0.5})}
    return Refits(make_study(direction), config, baselines, refitted, images, folder)


def leave_results(refits: Refits, values: Mapping[str, list[float]]) -> None:
    for training in refits.place():
        model, refit = training.identity["model"], training.identity["refit"]
        value = values[model][refit]
        result = {"status": "finished", "best_value": value, "best_epoch": 1, "epochs": 1}
        write_json(training.folder / run_directory.RESULT, result)


def test_the_best_and_the_baselines_are_trained_again_seed_by_seed(
    images: ImageSet, tmp_path: Path
) -> None:
    refits = make_refits(images, tmp_path)
    trainings = refits.place()
    assert refits.number == len(trainings) == 6
    assert [(t.identity["model"], t.identity["refit"]) for t in trainings] == [
        ("trial 1", 0), ("trial 3", 0), ("known", 0), ("trial 1", 1), ("trial 3", 1), ("known", 1),
    ]  # fmt: skip
    assert len({training.folder for training in trainings}) == 6
    seeds = {training.config.seed for training in trainings}
    assert seeds == {refit_seed(refits.config, 0), refit_seed(refits.config, 1)}
    assert refits.config.seed not in seeds
    assert trainings[0].config.optimizer.lr == pytest.approx(2e-3)


def test_refits_share_the_closed_test_part_and_draw_validation_parts_of_their_own(
    images: ImageSet,
) -> None:
    config = make_config()
    splits = make_splits(images, config)
    whole = splits["search"]
    first, second = splits["refit-0"], splits["refit-1"]
    for split in (first, second):
        assert split.test.tolist() == whole.test.tolist()
        parts = [*split.train, *split.validation, *split.test]
        assert sorted(parts) == list(range(20))
    assert first.validation.tolist() != second.validation.tolist()


@pytest.mark.parametrize("settings", [{"search.refit": 0}, {"search.inner_folds": 3}])
def test_splits_hold_what_the_settings_ask_for(images: ImageSet, settings: dict[str, Any]) -> None:
    splits = make_splits(images, make_config(settings))
    folds = [name for name in splits if name.startswith("search/fold-")]
    assert len(folds) == (3 if "search.inner_folds" in settings else 0)
    validated = [index for name in folds for index in splits[name].validation]
    development = sorted([*splits["search"].train, *splits["search"].validation])
    assert sorted(validated) == (development if folds else [])
    assert ("refit-0" in splits) is ("search.refit" not in settings)


def test_without_a_complete_trial_nothing_is_trained_again(
    images: ImageSet, tmp_path: Path
) -> None:
    refits = make_refits(images, tmp_path)
    assert len(refits.place()) == 6
    assert replace(refits, study=optuna.create_study()).place() == []


def test_the_winner_is_the_best_mean_and_never_a_baseline(images: ImageSet, tmp_path: Path) -> None:
    refits = make_refits(images, tmp_path)
    assert refits.winner() is None
    assert set(refits.table()["status"]) == {"open"}
    leave_results(refits, {"trial 1": [0.6, 0.7], "trial 3": [0.8, 0.6], "known": [0.9, 0.9]})
    winner = refits.winner()
    assert winner is not None and (winner.name, winner.search_value) == ("trial 3", 0.8)


def test_the_winner_has_the_smallest_loss_where_a_loss_is_minimised(
    images: ImageSet, tmp_path: Path
) -> None:
    config = make_config({"training.monitor": "val_loss"})
    refits = make_refits(images, tmp_path, config, "minimize")
    leave_results(refits, {"trial 0": [0.6, 0.7], "trial 2": [0.8, 0.6], "known": [0.9, 0.9]})
    winner = refits.winner()
    assert winner is not None and winner.name == "trial 0"


def test_a_trial_that_lacks_a_refit_does_not_win_and_the_table_says_why(
    images: ImageSet, tmp_path: Path
) -> None:
    refits = make_refits(images, tmp_path)
    leave_results(refits, {"trial 1": [0.9, 0.99], "trial 3": [0.8, 0.8], "known": [0.5, 0.5]})
    lost = next(t for t in refits.place() if t.identity["model"] == "trial 1")
    (lost.folder / run_directory.RESULT).unlink()
    write_json(lost.folder / run_directory.FAILURE, {"reason": "out of memory", "retry": False})
    refits.export()
    table = pd.read_csv(tmp_path / run_directory.REFITS)
    row = table[(table["model"] == "trial 1") & (table["refit"] == 0)].iloc[0]
    assert (row["status"], row["reason"]) == ("failed", "out of memory")
    winner = refits.winner()
    assert winner is not None and winner.name == "trial 3"


def test_the_closed_test_part_is_looked_at_once_by_winner_and_baselines_alone(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refits = make_refits(images, tmp_path)
    splits: dict[str, Split] = refit_splits(
        make_splits(images, refits.config)["search"], images, refits.config
    )
    for training in refits.place():
        split = splits[training.split]
        closed = Split(split.train, split.validation, split.test[:0])
        fit(training.config, images, closed, training.folder)
    winner = refits.winner()
    assert winner is not None
    refits.open_test_part(winner)
    refits.gather_images()
    rows = pd.read_csv(tmp_path / run_directory.REFIT_IMAGES)
    test = rows[rows["part"] == "test"]
    assert set(test["model"]) == {winner.name, "known"}
    assert set(rows.loc[rows["part"] == "validation", "model"]) == {"trial 1", "trial 3", "known"}
    expected = [images.names[index] for index in splits["refit-0"].test]
    for _, own in test.groupby(["model", "refit"]):
        assert own["image"].tolist() == expected
    dice = compute_metrics(test[list(COUNTS)].to_numpy())["dice"]
    assert test["dice"].to_numpy() == pytest.approx(dice)
    for model in ("trial 1", "trial 3", "known"):
        maps = (tmp_path / run_directory.PREDICTIONS / model).glob("*.png")
        looked = expected if model in (winner.name, "known") else []
        assert sorted(path.stem for path in maps) == sorted(looked)
    # A second time nothing is evaluated, also not for another winner of a search that grew.
    monkeypatch.setattr("busi_tune.jobs.refit._evaluate_best", None)
    refits.open_test_part(winner)
    other = next(c for c in refits.candidates() if c.name not in (winner.name, "known"))
    refits.open_test_part(other)
    # Nor where the record of it is damaged.
    opened = tmp_path / run_directory.OPENED
    whole = opened.read_text()
    opened.write_text(whole[:5])
    refits.open_test_part(other)
    assert opened.read_text() == whole
    assert len(list(tmp_path.glob(f"trainings/*/{run_directory.CLOSED_TEST}"))) == 4


@pytest.fixture
def refitted(images: ImageSet, tmp_path: Path) -> Refits:
    """Two candidates with a refit each that has ended."""
    config = make_config({"search.refit": 1, "search.refit_seeds": 1})
    refits = make_refits(images, tmp_path, config)
    for training in refits.place():
        fit(training.config, images, without_test(refits.splits[training.split]), training.folder)
    return refits


def test_a_refit_that_lost_its_best_epoch_is_trained_again_before_it_is_scored(
    refitted: Refits, images: ImageSet
) -> None:
    winner = refitted.winner()
    assert winner is not None
    lost = next(t for t in refitted.place() if t.identity["model"] == winner.name)
    (lost.folder / run_directory.BEST_CHECKPOINT).write_bytes(b"")
    with pytest.raises(
        ClusterError, match=f"{lost.name} cannot be scored: .* --resume makes it anew"
    ):
        refitted.open_test_part(winner)
    fit(lost.config, images, without_test(refitted.splits[lost.split]), lost.folder)
    refitted.open_test_part(winner)
    assert (lost.folder / run_directory.CLOSED_TEST).exists()


def test_the_closed_test_part_shows_how_far_it_is(
    refitted: Refits, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = refitted.winner()
    assert winner is not None
    said: list[tuple[str, int, int]] = []
    monkeypatch.setattr("busi_tune.jobs.refit.Phases.__call__", lambda self, *c: said.append(c))
    refitted.open_test_part(winner)
    number = len(refitted.splits["refit-0"].test)
    assert number > 0
    assert said == [
        (f"closed test part, {training.name}", done, number)
        for training in refitted.place()
        for done in range(number + 1)
    ]


def test_what_gpus_trained_is_scored_by_a_driver_that_has_none(
    refitted: Refits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Refits.place
    on_gpus = {"training.device": "cuda", "training.precision": "bf16"}
    monkeypatch.setattr(
        Refits,
        "place",
        lambda self: [replace(t, config=override(t.config, on_gpus)) for t in place(self)],
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    winner = refitted.winner()
    assert winner is not None
    refitted.open_test_part(winner)
    assert len(list(tmp_path.glob(f"trainings/*/{run_directory.CLOSED_TEST}"))) == 2


def test_a_configuration_that_has_seen_the_closed_part_is_refused(images: ImageSet) -> None:
    config = make_config()
    split = make_splits(images, config)["search"]
    names = [images.names[index] for index in (*split.train, *split.validation)]
    assert make_closed(images, config, Known([], {}, frozenset(names)))
    unseen = images.names[split.test[0]]
    with pytest.raises(ValueError, match=r"chosen on 1 of the \d images .* --seed"):
        make_closed(images, config, Known([], {}, frozenset([*names, unseen])))
