"""The ensemble of a run against its best single model."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from busi_tune.data.cache import ImageSet
from busi_tune.evaluation.levels import threshold_level
from busi_tune.results.averages import (
    Library,
    choose_weights,
    judge_choices,
    open_library,
    sample_maps,
)
from busi_tune.results.pages.ensemble import conclude, ensemble_table, write_ensemble
from busi_tune.results.read import KfoldRun
from busi_tune.settings import override
from tests.results.conftest import read_kfold, write_kfold_run

NUM_FOLDS = 3


@pytest.fixture(scope="module")
def images() -> ImageSet:
    from tests.results.conftest import make_images

    return make_images(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: ImageSet) -> Path:
    path = tmp_path_factory.mktemp("ensemble") / "run"
    return write_kfold_run(path, images, ("unet", "report_cnn"), num_folds=NUM_FOLDS)


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> KfoldRun:
    shutil.copytree(folder, tmp_path / "run")
    return read_kfold(tmp_path / "run")


def open_whole(run: KfoldRun, images: ImageSet) -> Library:
    library = open_library(run, images)
    assert library is not None
    return library


def dice(lesion: np.ndarray, truth: np.ndarray) -> float:
    total = lesion.sum() + truth.sum()
    return 2 * (lesion & truth).sum() / total if total else 1.0


def test_samples_are_every_fourth_row_and_column_of_the_average(
    run: KfoldRun, images: ImageSet
) -> None:
    library = open_whole(run, images)
    found = sample_maps(library).dice((2, 1))
    for name, value in zip(library.tests["image"], found, strict=True):
        maps = [library.read(name, model)[::4, ::4].astype(float) for model in library.models]
        lesion = (2 * maps[0] + maps[1]) / 3 >= threshold_level(0.5)
        assert value == pytest.approx(dice(lesion, library.truth(name)[::4, ::4]))


def test_a_single_model_is_judged_as_in_the_runs_own_table(run: KfoldRun, images: ImageSet) -> None:
    library = open_whole(run, images)
    only = {fold: ((0, 1), (1, 0)) for fold in range(NUM_FOLDS)}
    judged = judge_choices(library, only).set_index("image")
    for column, model in (("ensemble", "report_cnn"), ("single", "unet")):
        own = run.images[run.images["model"] == model].set_index("image")["dice"]
        pd.testing.assert_series_equal(judged[column], own[judged.index], check_names=False)


def test_judged_images_take_no_part_in_the_choice(run: KfoldRun, images: ImageSet) -> None:
    library = open_whole(run, images)
    before = choose_weights(library)
    tests = library.tests
    for name in tests.loc[tests["fold"] == 1, "image"]:
        for model in library.models:
            path = library.folder / model / f"{name}.png"
            noise = np.random.default_rng(0).integers(0, 256, library.truth(name).shape)
            Image.fromarray(noise.astype(np.uint8)).save(path)
    after = choose_weights(library)
    assert before[1] == after[1]
    # A check that looked at other images would pass too: theirs do change.
    assert judge_choices(library, before)["ensemble"].loc[tests["fold"] == 1].max() < 0.9


def make_judged(differences: list[float]) -> pd.DataFrame:
    number = len(differences)
    single = np.linspace(0.4, 0.6, number)
    return pd.DataFrame({
        "image": [f"{n}" for n in range(number)], "fold": np.arange(number) % 5,
        "group": [f"{n}" for n in range(number)], "has_lesion": True,
        "single": single, "ensemble": single + differences, "difference": differences,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("differences", "better"),
    [
        ([0.05, 0.04, 0.06, 0.05, 0.04] * 8, True),
        ([0.05, -0.06, 0.04, -0.05, 0.03] * 8, False),
        ([-0.05, -0.04, -0.06, -0.05, -0.04] * 8, False),
        ([0.0] * 40, False),
        # The interval over images excludes zero, the folds say otherwise.
        ([0.3, 0.01, 0.01, -0.02, 0.01] * 20, False),
    ],
)
def test_it_is_called_better_only_where_interval_and_test_say_so(
    differences: list[float], better: bool
) -> None:
    table = ensemble_table(make_judged(differences), test_over_train=0.25)
    assert table["images"].tolist() == ["tumour", "all"]
    assert table["better"].tolist() == [better, better]
    sentence = conclude(table.iloc[0].to_dict(), [])
    assert ("is no better" in sentence) is not better
    marked = conclude(table.iloc[0].to_dict(), ["known"])
    assert "no claim" in marked
    assert "better" not in marked


def test_the_page_has_weights_and_sentences(run: KfoldRun, images: ImageSet) -> None:
    write_ensemble(run, images)
    tables = run.folder / "tables"
    page = (tables / "ensemble.md").read_text()
    table = pd.read_csv(tables / "ensemble.csv")
    judged = pd.read_csv(tables / "ensemble_images.csv")
    assert len(judged) == len(images)
    tumour = judged[judged["has_lesion"]]
    assert table["ensemble"][0] == pytest.approx(tumour["ensemble"].mean())
    assert table["difference"][1] == pytest.approx(judged["difference"].mean())
    assert page.count("the best single model") >= 2
    assert "no judged image's score had a part in a choice" in page
    written = page
    write_ensemble(run, images)
    assert (tables / "ensemble.md").read_text() == written


def test_without_maps_or_a_common_threshold_it_is_left_out(
    run: KfoldRun, images: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    models = {"unet": {}, "report_cnn": {"training.threshold": 0.3}}
    other = replace(run, config=override(run.config, {"kfold.models": models}))
    write_ensemble(other, images)
    assert "the models differ in training.threshold" in caplog.text
    shutil.rmtree(run.folder / "predictions" / "report_cnn")
    write_ensemble(run, images)
    assert "lacks maps" in caplog.text
    assert not (run.folder / "tables" / "ensemble.md").exists()


def test_an_ensemble_needs_two_folds_of_every_model(
    run: KfoldRun, images: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    late = (run.images["model"] == "unet") & (run.images["fold"] > 0)
    assert open_library(replace(run, images=run.images[~late]), images) is None
    assert "fewer than two folds" in caplog.text


def test_a_single_model_has_no_ensemble(tmp_path: Path, images: ImageSet) -> None:
    run = read_kfold(write_kfold_run(tmp_path / "run", images, ("unet",), num_folds=2))
    assert open_library(run, images) is None
