from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.jobs.console import print_lines, print_rows
from busi_tune.results.closing import closing_lines, closing_rows, read_closing
from busi_tune.results.pages.conclusions import CAVEAT
from busi_tune.results.pages.kfold_tables import write_kfold_tables
from busi_tune.results.pages.pairs import write_pairs
from busi_tune.results.write import console_lines
from tests.results.conftest import read_kfold, write_kfold_run

Tables = tuple[pd.DataFrame, pd.DataFrame | None]


def write_tables(folder: Path) -> Tables:
    run = read_kfold(folder)
    write_pairs(run, write_kfold_tables(run))
    return read_closing(folder)


def rows_by_model(models: pd.DataFrame, pairs: pd.DataFrame | None) -> dict[str, dict[str, str]]:
    rows = closing_rows(models, pairs)
    return {row["model"].removesuffix("\N{DAGGER}"): row for row in rows}


@pytest.fixture
def folder(tmp_path: Path, images: ImageSet) -> Path:
    models = ("unet", "report_cnn", "smp_unet")
    return write_kfold_run(tmp_path / "run", images, models, num_folds=2)


def test_every_model_stands_beside_the_leader_with_the_interval_of_its_pair(folder: Path) -> None:
    models, pairs = write_tables(folder)
    assert pairs is not None
    pairs = pairs.assign(difference=0.25, low=0.125, high=0.5, corrected_t_holm=0.02)
    tumour = models["images"] == "tumour"
    models.loc[tumour, "dice_mean"] = [0.5, 0.3, 0.7]
    rows = rows_by_model(models, pairs)
    differences = {model: row["Dice to the leader"] for model, row in rows.items()}
    # Both pairs with smp_unet name it second: first - second is the other minus the leader.
    assert differences == {
        "unet": "0.250 [0.125, 0.500]", "report_cnn": "0.250 [0.125, 0.500]", "smp_unet": "-",
    }  # fmt: skip
    # The leader was chosen on these images, so p stands with the mark, which its note explains.
    assert rows["unet"]["p (Holm)"] == "0.020\N{DAGGER}"
    assert rows["smp_unet"]["model"] == "smp_unet\N{DAGGER}"
    assert rows["smp_unet"]["note"].endswith("\N{DAGGER} chosen on these images")
    models.loc[tumour, "dice_mean"] = [0.9, 0.3, 0.7]
    rows = rows_by_model(models, pairs)
    assert rows["report_cnn"]["p (Holm)"] == "0.020"
    assert rows["smp_unet"]["Dice to the leader"] == "-0.250 [-0.500, -0.125]"


def test_scores_are_those_of_the_tumour_images(folder: Path) -> None:
    models, pairs = write_tables(folder)
    row = closing_rows(models, pairs)[0]
    shown = models.set_index(["model", "images"])
    expected = shown.loc[("unet", "tumour"), "dice_mean"]
    assert row["Dice, tumour images"].startswith(f"{expected:.3f} [")
    assert row["false lesions"] == f"{shown.loc[('unet', 'normal'), 'false_lesion_mean']:.3f}"
    assert "NSD, tumour images" not in row


def test_nsd_is_shown_where_it_was_measured(folder: Path) -> None:
    images = pd.read_csv(folder / run_directory.IMAGES)
    images.assign(nsd=0.5, hd95=12.25).to_csv(folder / run_directory.IMAGES, index=False)
    models, pairs = write_tables(folder)
    assert closing_rows(models, pairs)[0]["NSD, tumour images"] == "0.500 [0.500, 0.500]"
    page = (folder / "tables/models.md").read_text()
    assert "12.2 ± 0.0 [12.2, 12.2]" in page
    assert "HD95 and NSD at 2 pixels" in page


def test_lines_are_the_conclusions_on_the_leader(folder: Path) -> None:
    models, pairs = write_tables(folder)
    assert pairs is not None
    tumour = models["images"] == "tumour"
    models.loc[tumour, ["dice_mean", "dice_low", "dice_high"]] = [
        [0.7, 0.65, 0.75], [0.3, 0.2, 0.4], [0.5, 0.4, 0.6],
    ]  # fmt: skip
    lines = closing_lines(models, pairs)
    own = pairs[(pairs["score"] == "dice") & (pairs["images"] == "tumour")]
    assert lines == [*own.loc[own["first"] == "unet", "conclusion"], CAVEAT]
    models.loc[tumour & (models["model"] == "report_cnn"), "dice_mean"] = 0.68
    assert "rank 2 lies inside rank 1's interval" in closing_lines(models, pairs)[0]


def test_of_a_leader_chosen_on_these_images_the_lines_go_on_to_the_best_that_was_not(
    folder: Path,
) -> None:
    models, pairs = write_tables(folder)
    assert pairs is not None
    models.loc[models["images"] == "tumour", ["dice_mean", "dice_low", "dice_high"]] = [
        [0.5, 0.4, 0.6], [0.3, 0.2, 0.4], [0.7, 0.65, 0.75],
    ]  # fmt: skip
    own = pairs[(pairs["score"] == "dice") & (pairs["images"] == "tumour")]
    among = own[(own["first"] == "unet") & (own["second"] == "report_cnn")]
    assert closing_lines(models, pairs) == [
        "No claim on smp_unet: it was chosen on these images, which flatters its figures. Of the "
        "models that were not, unet has the highest mean Dice.",
        *among["conclusion"],
        CAVEAT,
    ]
    models["chosen_here"] = True
    assert closing_lines(models, pairs)[0].endswith("which flatters its figures.")


def test_a_single_model_has_a_row_and_nothing_to_conclude(folder: Path) -> None:
    for name in (run_directory.FOLDS, run_directory.IMAGES):
        rows = pd.read_csv(folder / name)
        rows[rows["model"] == "unet"].to_csv(folder / name, index=False)
    models, pairs = write_tables(folder)
    (row,) = closing_rows(models, pairs)
    assert "Dice to the leader" not in row
    assert closing_lines(models, pairs) == []


def test_a_search_has_no_lines(search_run: Path) -> None:
    assert console_lines(search_run) == []


def test_off_a_terminal_lines_are_plain_and_never_wrapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "word [bold] " * 60 + "end"
    print_lines([line])
    print_rows([{"model": "unet", "Dice": "0.5 [0.4, 0.6]"}])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == line
    assert any("0.5 [0.4, 0.6]" in row for row in shown)
