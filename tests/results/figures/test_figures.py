from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.results.figures import comparisons, curves
from busi_tune.results.figures.overlays import NUM_DETAILED, choose_detailed, choose_sheet
from busi_tune.results.figures.style import SERIES, TRAIN, VALIDATION, house_style, save_figure
from busi_tune.results.write import console_rows, write_results
from tests.results.conftest import read_kfold

KFOLD_VECTOR = {
    "curves-unet", "curves-report_cnn", "folds", "models", "differences", "sizes",
}  # fmt: skip
KFOLD_SHEETS = {
    "overlays-unet", "overlays-report_cnn", "sheet-unet", "sheet-report_cnn", "gallery-unet",
    "gallery-report_cnn", "disagreements",
}  # fmt: skip
KFOLD_PAGES = {
    "folds", "models", "pairs", "subgroups", "report_protocol", "conventions", "ensemble",
}  # fmt: skip
SEARCH_VECTOR = {"history", "leaders", "curves-best", "budget", "slices", "parallel"}


def names(folder: Path, ending: str) -> set[str]:
    return {path.stem for path in (folder / "figures").glob(f"*.{ending}")}


def contents(folder: Path) -> dict[str, bytes]:
    written = [*folder.glob("tables/*"), *folder.glob("figures/*")]
    return {path.name: path.read_bytes() for path in written}


def test_kfold_run_gets_all_its_tables_and_figures(kfold_run: Path, images: ImageSet) -> None:
    write_results(kfold_run, images)
    assert names(kfold_run, "svg") == KFOLD_VECTOR
    assert names(kfold_run, "png") == KFOLD_VECTOR | KFOLD_SHEETS | {"augmented"}
    tables = {path.name for path in (kfold_run / "tables").iterdir()}
    pages = {f"{name}.{ending}" for name in KFOLD_PAGES for ending in ("csv", "md", "tex")}
    assert tables == pages | {"methods.md", "methods.tex", "ensemble_images.csv"}


def test_search_run_gets_all_its_tables_and_figures_and_the_same_again(
    search_run: Path, images: ImageSet
) -> None:
    write_results(search_run, images)
    assert names(search_run, "svg") == SEARCH_VECTOR
    assert names(search_run, "png") == SEARCH_VECTOR | {"augmented"}
    first = contents(search_run)
    write_results(search_run, images)
    assert contents(search_run) == first


@pytest.mark.usefixtures("blank_figures")
def test_without_images_the_other_figures_are_made_and_the_log_says_so(
    kfold_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_results(kfold_run, None)
    assert names(kfold_run, "png") == KFOLD_VECTOR
    assert "images are not at hand" in caplog.text


def test_other_images_than_the_runs_are_refused(kfold_run: Path, images: ImageSet) -> None:
    with pytest.raises(ValueError, match="other data"):
        write_results(kfold_run, replace(images, data_hash="1" * 64))


@pytest.mark.usefixtures("blank_figures")
def test_model_without_predictions_is_left_out_and_the_log_says_which(
    kfold_run: Path, images: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (kfold_run / run_directory.PREDICTIONS / "unet").iterdir():
        path.unlink()
    write_results(kfold_run, images)
    assert "no overlays of unet" in caplog.text
    assert "sheet-report_cnn" in names(kfold_run, "png")
    assert "sheet-unet" not in names(kfold_run, "png")


def test_run_without_a_finished_training_is_no_error(
    kfold_run: Path, images: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    (kfold_run / run_directory.FOLDS).write_text("\n")
    write_results(kfold_run, images)
    assert "no training has finished" in caplog.text


@pytest.mark.usefixtures("blank_figures")
def test_search_without_a_complete_trial_is_no_error(search_run: Path, images: ImageSet) -> None:
    trials = pd.read_csv(search_run / run_directory.TRIALS)
    failed = trials.assign(state="FAIL", value=np.nan)
    failed.to_csv(search_run / run_directory.TRIALS, index=False)
    (search_run / run_directory.EPOCHS).write_text("\n")
    write_results(search_run, images)
    assert names(search_run, "svg") == {"history", "budget"}
    assert console_rows(search_run) == []


@pytest.mark.usefixtures("blank_figures")
def test_run_on_normal_images_alone_gets_tables_and_sheets(
    kfold_run: Path, images: ImageSet
) -> None:
    rows = pd.read_csv(kfold_run / run_directory.IMAGES)
    normal = rows[rows["label"] == "normal"]
    normal.to_csv(kfold_run / run_directory.IMAGES, index=False)
    write_results(kfold_run, images)
    assert "sheet-unet" in names(kfold_run, "png")
    assert not {"folds", "models", "sizes", "overlays-unet"} & names(kfold_run, "png")


def test_curves_show_training_against_validation_for_loss_and_every_metric(
    kfold_run: Path,
) -> None:
    epochs = read_kfold(kfold_run).epochs
    folds = [curve for _, curve in epochs[epochs["model"] == "unet"].groupby("fold")]
    panels = curves.plot_curves("title", folds).axes
    for axes, metric in zip(panels, curves.PANELS, strict=True):
        bold = {line.get_color(): line for line in axes.lines if line.get_linewidth() > 1}
        for part, colour in (("train", TRAIN), ("val", VALIDATION)):
            column = f"{part}_{metric}"
            if column in folds[0]:  # training has no Dice of its tumour images alone
                mean = np.mean([fold[column].to_numpy()[:7] for fold in folds], axis=0)
                np.testing.assert_allclose(bold[colour].get_ydata(), mean)
        assert len(axes.lines) == len(bold) * (len(folds) + 1)
    assert len(panels[0].lines) == 2 * (len(folds) + 1)


def test_fold_boxes_hold_the_tumour_images_of_a_fold(kfold_run: Path) -> None:
    with house_style():
        figure = comparisons.plot_folds(read_kfold(kfold_run))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["unet", "report_cnn"]
    assert "n = 8 tumour images per fold" in caption(figure)


def test_model_figure_states_the_mean_with_its_interval(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    figure = comparisons.plot_models(run)
    tumour = run.images[run.images["has_lesion"] & (run.images["model"] == "unet")]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any(text.startswith(f"{tumour['dice'].mean():.3f} [") for text in texts)
    assert "n = 16 tumour images" in caption(figure)


def test_an_image_is_one_point_however_often_it_was_tested(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    again = run.images.assign(repeat=1, dice=run.images["dice"] / 2)
    figure = comparisons.plot_models(replace(run, images=pd.concat([run.images, again])))
    points = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    tumour = run.images[run.images["has_lesion"] & (run.images["model"] == run.models[-1])]
    expected = 0.75 * tumour.groupby("image")["dice"].first()
    assert sorted(points[0].get_xdata()) == pytest.approx(sorted(expected))


def test_detailed_images_are_one_of_each_fifth_by_dice(kfold_run: Path) -> None:
    rows = read_kfold(kfold_run).images
    chosen = choose_detailed(rows, seed=0)
    dice = rows[rows["has_lesion"]].groupby("image")["dice"].mean().sort_values(kind="stable")
    fifths = np.array_split(dice.index.to_numpy(), NUM_DETAILED)
    assert [name in fifth for name, fifth in zip(chosen, fifths, strict=True)] == [True] * 5
    assert choose_detailed(rows, seed=0) == chosen


def test_sheet_has_at_most_48_images_in_the_order_of_their_dice() -> None:
    rows = pd.DataFrame(
        {"image": [f"{i:03}" for i in range(100)], "model": "unet", "dice": np.linspace(0, 1, 100)}
    )
    chosen = choose_sheet(rows, seed=0)
    assert len(set(chosen)) == 48
    assert chosen == sorted(chosen)


def test_sheet_leaves_out_images_that_a_model_has_not_tested(kfold_run: Path) -> None:
    rows = read_kfold(kfold_run).images
    tested = rows[(rows["model"] == "unet") | (rows["fold"] == 0)]
    assert set(choose_sheet(tested, seed=0)) == set(rows.loc[rows["fold"] == 0, "image"])


@pytest.mark.usefixtures("blank_figures")
def test_console_rows_show_models_and_leading_trials(
    kfold_run: Path, search_run: Path, images: ImageSet
) -> None:
    write_results(kfold_run, None)
    models = console_rows(kfold_run)
    assert [row["model"] for row in models] == ["unet", "report_cnn"]
    assert models[0]["note"] == "not converged in 1 of 2"
    assert models[0]["parameters"] == "1,534,083"
    trials = console_rows(search_run)
    assert len(trials) == 4
    assert trials[0]["model.architecture"] in {"unet", "report_cnn"}


def test_figures_are_page_wide_and_captions_stay_inside(tmp_path: Path, kfold_run: Path) -> None:
    with house_style():
        figure = comparisons.plot_models(read_kfold(kfold_run))
        save_figure(figure, tmp_path, "models")
    with Image.open(tmp_path / "models.png") as image:
        assert image.width == 1420
        ink = np.asarray(image.convert("L")) < 250
    assert not ink[:, -2:].any()
    assert ElementTree.parse(tmp_path / "models.svg").getroot().tag.endswith("svg")


def test_neighbouring_series_differ_in_lightness() -> None:
    lightness = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in SERIES]
    assert np.abs(np.diff(lightness[:3])).min() > 0.1
    assert abs(np.dot(np.subtract(to_rgb(TRAIN), to_rgb(VALIDATION)), (0.299, 0.587, 0.114))) > 0.25


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())
