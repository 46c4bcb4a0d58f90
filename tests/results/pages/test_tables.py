from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.evaluation.counts import COUNTS, batch_averaged
from busi_tune.kfold_models import NESTED
from busi_tune.results.figures.comparisons import plot_folds, plot_models
from busi_tune.results.figures.differences import plot_differences
from busi_tune.results.figures.sizes import plot_sizes
from busi_tune.results.pages.conventions import write_conventions
from busi_tune.results.pages.kfold_tables import SCORES, models_table, write_kfold_tables
from busi_tune.results.pages.operating_point import write_operating_point
from busi_tune.results.pages.pairs import pairs_table
from busi_tune.results.pages.report_protocol import NO_COMPARISON, write_report_protocol
from busi_tune.results.pages.subgroups import write_subgroups
from busi_tune.results.pages.tables import (
    Table,
    format_p,
    format_summary,
    format_value,
    to_markdown,
    write_page,
)
from busi_tune.results.read import read_run
from busi_tune.settings import override, to_yaml
from tests.results.conftest import read_kfold


def test_models_table_is_over_test_images_of_all_folds(kfold_run: Path) -> None:
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    test = images[(images["part"] == "test") & (images["model"] == "unet")]
    table = models_table(read_kfold(kfold_run)).set_index(["model", "images"])
    row = table.loc[("unet", "all")]
    assert row["num_images"] == len(test) == 24
    for score in SCORES:
        assert row[f"{score}_mean"] == pytest.approx(test[score].mean())
        assert row[f"{score}_sd"] == pytest.approx(test[score].std())
        assert row[f"{score}_low"] <= row[f"{score}_mean"] <= row[f"{score}_high"]


def test_tumour_images_are_those_whose_mask_has_a_lesion(kfold_run: Path) -> None:
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    test = images[(images["part"] == "test") & (images["model"] == "unet")]
    table = models_table(read_kfold(kfold_run)).set_index(["model", "images"])
    tumour = test[test["label"] != "normal"]
    assert table.loc[("unet", "tumour"), "num_images"] == len(tumour)
    assert table.loc[("unet", "tumour"), "dice_mean"] == pytest.approx(tumour["dice"].mean())


def test_false_lesion_share_is_that_of_normal_images_with_a_predicted_pixel(
    kfold_run: Path,
) -> None:
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    normal = images[(images["part"] == "test") & (images["label"] == "normal")]
    table = models_table(read_kfold(kfold_run)).set_index(["model", "images"])
    for model, rows in normal.groupby("model"):
        share = table.loc[(model, "normal"), "false_lesion_mean"]
        assert share == pytest.approx((rows["fp"] > 0).mean())
        assert 0 < share < 1


def test_models_page_says_protocol_cost_and_what_has_not_converged(kfold_run: Path) -> None:
    write_kfold_tables(read_kfold(kfold_run))
    page = (kfold_run / "tables/models.md").read_text()
    for said in (
        "original pixels", "threshold 0.5", "Synthetic images", "scores 1", "95 % percentile",
        "whole groups", "| unet | 16 |", "| unet | 24 |", "1,534,083", "not converged in 1 of 2",
        "groups of near-duplicates together, found by their content",
    ):  # fmt: skip
        assert said in page


def test_model_chosen_on_these_images_is_marked(kfold_run: Path) -> None:
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    folds["chosen_here"] = folds["model"] == "unet"
    folds.to_csv(kfold_run / run_directory.FOLDS, index=False)
    write_kfold_tables(read_kfold(kfold_run))
    page = (kfold_run / "tables/models.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| unet")]
    assert len(rows) == 4 and all(row.startswith("| unet\N{DAGGER} |") for row in rows)
    assert sum("\N{DAGGER} chosen on these images |" in row for row in rows) == 1
    captions = [line for line in page.splitlines() if line.startswith("**Table")]
    assert all("\N{DAGGER} chosen on these images" in caption for caption in captions)
    assert (kfold_run / "tables/folds.md").read_text().count("| unet\N{DAGGER} |") == 4


def test_every_page_and_figure_marks_a_chosen_model(kfold_run: Path) -> None:
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    tuned = {f"{name}_tuned": images[name] for name in COUNTS}
    images.assign(**tuned).to_csv(kfold_run / run_directory.IMAGES, index=False)
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    folds["chosen_here"] = folds["model"] == "unet"
    folds.to_csv(kfold_run / run_directory.FOLDS, index=False)
    run = read_kfold(kfold_run)
    for write in (write_subgroups, write_conventions, write_operating_point):
        write(run)
    for name in ("subgroups", "conventions", "operating_point"):
        page = (kfold_run / f"tables/{name}.md").read_text()
        assert "| unet\N{DAGGER} |" in page and "| unet |" not in page, name
        assert "\N{DAGGER} chosen on these images, which flatters" in page, name
    differences = plot_differences(run, pairs_table(run))
    for figure in (plot_models(run), plot_folds(run), plot_sizes(run), differences):
        ticks = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
        titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
        assert any("unet\N{DAGGER}" in text for text in (*ticks, *titles))
        assert "chosen on these images" in " ".join(figure.get_supxlabel().split())


def test_the_cost_of_a_nested_search_is_that_of_its_trials_too(kfold_run: Path) -> None:
    for name in (run_directory.FOLDS, run_directory.EPOCHS, run_directory.IMAGES):
        rows = pd.read_csv(kfold_run / name)
        rows.replace({"model": {"report_cnn": NESTED}}).to_csv(kfold_run / name, index=False)
    trials = pd.DataFrame(
        {"repeat": 0, "fold": [0, 0, 1], "epochs": 4, "seconds": [900, 900, 1774]}
    )
    trials.to_csv(kfold_run / run_directory.NESTED_TRIALS, index=False)
    table = models_table(read_kfold(kfold_run)).set_index(["model", "images"])
    # Two trainings of 12.5 and 13.5 seconds each.
    assert table.loc[(NESTED, "all"), ["num_trainings", "num_trials"]].tolist() == [2, 3]
    assert table.loc[(NESTED, "all"), "hours"] == pytest.approx(1.0)
    assert table.loc[("unet", "all"), "num_trials"] == 0
    assert table.loc[("unet", "all"), "hours"] == pytest.approx(26 / 3600)
    folds = pd.read_csv(kfold_run / run_directory.FOLDS)
    folds.assign(seconds=np.nan).to_csv(kfold_run / run_directory.FOLDS, index=False)
    table = models_table(read_kfold(kfold_run)).set_index(["model", "images"])
    assert np.isnan(table.loc[("unet", "all"), "hours"])


def test_folds_table_has_a_row_per_training_with_its_cost(kfold_run: Path) -> None:
    write_kfold_tables(read_kfold(kfold_run))
    table = pd.read_csv(kfold_run / "tables/folds.csv")
    assert list(table["model"]) == ["unet"] * 2 + ["report_cnn"] * 2
    assert list(table["fold"]) == [0, 1, 0, 1]
    assert list(table["converged"]) == [True, False] * 2
    for column in ("epochs", "seconds", "num_parameters", "num_workers", "dice_tumour"):
        assert table[column].gt(0).all()
    page = (kfold_run / "tables/folds.md").read_text()
    assert "| unet | 0 | 1 | 12 |" in page
    assert "| unet | tumour | 16 |" in page


def test_report_protocol_stands_beside_the_published_figures(kfold_run: Path) -> None:
    write_report_protocol(read_kfold(kfold_run))
    table = pd.read_csv(kfold_run / "tables/report_protocol.csv")
    assert list(table["model"][:2]) == ["unet", "report_cnn"]
    assert list(table["published_dice"]) == [0.6835, 0.9040, 0.7615]
    assert np.isnan(table["dice"][2])
    page = (kfold_run / "tables/report_protocol.md").read_text()
    assert NO_COMPARISON in page
    assert "| report CNN | 2,000 | 0.895 | 0.815 | 0.904 |" in page


def test_report_protocol_pools_each_fold_at_training_size(kfold_run: Path) -> None:
    write_report_protocol(read_kfold(kfold_run))
    table = pd.read_csv(kfold_run / "tables/report_protocol.csv").set_index("model")
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    test = images[(images["part"] == "test") & (images["model"] == "unet")]
    counts = [f"{name}_resized" for name in COUNTS]
    folds = [batch_averaged(part[counts].to_numpy()) for _, part in test.groupby("fold")]
    for name in ("pixel_f1", "iou", "dice"):
        expected = np.mean([fold[name] for fold in folds])
        assert table.loc["unet", name] == pytest.approx(expected)


def test_report_protocol_pools_over_each_models_own_batches(kfold_run: Path) -> None:
    settings = {"kfold.models": {"unet": {"training.evaluation_batch_size": 1}, "report_cnn": {}}}
    (kfold_run / run_directory.CONFIG).write_text(to_yaml(override(Config(), settings)))
    write_report_protocol(read_kfold(kfold_run))
    table = pd.read_csv(kfold_run / "tables/report_protocol.csv").set_index("model")
    images = pd.read_csv(kfold_run / run_directory.IMAGES)
    for model, size in (("unet", 1), ("report_cnn", 32)):
        test = images[(images["part"] == "test") & (images["model"] == model)]
        counts = [part.filter(like="_resized").to_numpy() for _, part in test.groupby("fold")]
        expected = np.mean([batch_averaged(fold, size)["dice"] for fold in counts])
        assert table.loc[model, "dice"] == pytest.approx(expected)
    assert "batches of 1 or 32 images" in (kfold_run / "tables/report_protocol.md").read_text()


def test_published_figures_follow_the_architecture_not_the_name(kfold_run: Path) -> None:
    settings = {"kfold.models": {"unet": {"model": {"architecture": "unetplusplus"}}}}
    (kfold_run / run_directory.CONFIG).write_text(to_yaml(override(Config(), settings)))
    write_report_protocol(read_kfold(kfold_run))
    table = pd.read_csv(kfold_run / "tables/report_protocol.csv").set_index("model")
    assert table.loc["unet", "published_model"] == "U-Net++ (ResNet34)"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither trials\.csv nor folds\.csv"):
        read_run(tmp_path)


def test_markdown_keeps_its_columns_whatever_the_cells_hold() -> None:
    table = pd.DataFrame({"name": ["a|b", "c\nd"], "n": [1000, 2]})
    lines = to_markdown(Table("caption", table)).splitlines()
    assert lines == ["| name | n |", "| --- | ---: |", "| a\\|b | 1,000 |", "| c d | 2 |"]


def test_a_page_is_written_as_markdown_and_latex_from_one_source(tmp_path: Path) -> None:
    rows = pd.DataFrame({"Model": ["a_b"], "Dice": [0.5], "n": [1234], "Interval": ["[0, 1]"]})
    sections: list[str | Table] = [
        "## Results & more",
        "5 % of `a_b`.",
        Table("By n = 3 images.", rows, ("Dice",)),
    ]
    write_page(tmp_path, "page", "A page", sections)
    assert (tmp_path / "page.md").read_text() == (
        "# A page\n\n## Results & more\n\n5 % of `a_b`.\n\n**Table 1.** By n = 3 images.\n\n"
        "| Model | Dice | n | Interval |\n| --- | ---: | ---: | --- |\n"
        "| a_b | 0.500 | 1,234 | [0, 1] |\n"
    )
    latex = (tmp_path / "page.tex").read_text()
    for written in (
        "% A page\n", r"\paragraph{Results \& more}", r"5 \% of \texttt{a\_\allowbreak{}b}.",
        r"\caption{By n = 3 images.}", r"\label{tab:page-1}", r"\begin{tabular}{lrrl}",
        r"Model & Dice & n & Interval \\", r"a\_b & 0.500 & 1,234 & {[}0, 1] \\",
    ):  # fmt: skip
        assert written in latex


@pytest.mark.parametrize(
    ("value", "text"),
    [(1534083, "1,534,083"), (0.00042, "0.00042"), (float("nan"), "-"), (None, "-"), (True, "yes"),
     (np.bool_(False), "no"), (12.0, "12"), (pd.NA, "-"), ("unet", "unet")],
)  # fmt: skip
def test_cells_are_formatted(value: object, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0009, "< 0.001"), (0.0123, "0.012"), (1.0, "1.000"), (float("nan"), "-")]
)
def test_p_values_are_formatted(p: float, text: str) -> None:
    assert format_p(p) == text


def test_a_mean_without_spread_is_shown_without_one() -> None:
    assert format_summary(0.5, 0.1, 0.4, 0.6) == "0.500 ± 0.100 [0.400, 0.600]"
    assert format_summary(0.5, float("nan"), 0.5, 0.5) == "0.500 [0.500, 0.500]"
    assert format_summary(*[float("nan")] * 4) == "-"
