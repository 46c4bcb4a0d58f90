from pathlib import Path

import pandas as pd
import pytest

from busi_tune import run_directory
from busi_tune.data.cache import ImageSet
from busi_tune.results.figures.galleries import (
    choose_by_class,
    choose_disagreements,
    write_galleries,
)
from tests.results.conftest import read_kfold


def make_rows(dice: list[float], **columns: object) -> pd.DataFrame:
    names = [f"image {number}" for number in range(len(dice))]
    rows = pd.DataFrame({"image": names, "group": names, "dice": dice, "fp": 0})
    return rows.assign(**{"label": "benign", "has_lesion": True, "model": "a", **columns})


def test_worst_median_and_best_of_each_class_are_chosen() -> None:
    rows = make_rows([0.9, 0.1, 0.5, 0.2, 0.8, 0.6, 0.55, 0.3]).set_index("image")
    chosen = choose_by_class(pd.concat([rows, rows.head(3).assign(label="normal")]))
    assert chosen["benign"] == [
        ["image 1", "image 3"],
        ["image 2", "image 6"],
        ["image 4", "image 0"],
    ]
    assert chosen["normal"] == [["image 1"], ["image 2"], ["image 0"]]


def test_of_equals_those_with_more_false_pixels_are_worse() -> None:
    rows = make_rows([0.0] * 6, fp=[1, 9, 0, 5, 2, 3]).set_index("image")
    assert choose_by_class(rows)["benign"][0] == ["image 1", "image 3"]


def test_a_group_is_shown_once() -> None:
    rows = make_rows([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], group=list("aabcdef")).set_index("image")
    assert choose_by_class(rows)["benign"][0] == ["image 0", "image 2"]


def test_disagreements_are_the_largest_differences_of_any_two_models_on_tumours() -> None:
    first = make_rows([0.9, 0.5, 0.0, 1.0], has_lesion=[True, True, True, False])
    second = first.assign(model="b", dice=[0.1, 0.4, 0.6, 0.0])
    third = first.assign(model="c", dice=[0.5, 0.5, 0.7, 0.0])
    chosen = choose_disagreements(pd.concat([first, second, third]), ["a", "b", "c"])
    assert chosen == [("image 0", "a", "b"), ("image 2", "c", "a"), ("image 1", "a", "b")]


def test_models_that_agree_everywhere_disagree_nowhere() -> None:
    rows = make_rows([0.9, 0.5])
    assert choose_disagreements(pd.concat([rows, rows.assign(model="b")]), ["a", "b"]) == []


@pytest.mark.usefixtures("blank_figures")
def test_a_model_without_predictions_is_left_out_and_the_log_says_so(
    kfold_run: Path, images: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (kfold_run / run_directory.PREDICTIONS / "unet").iterdir():
        path.unlink()
    write_galleries(read_kfold(kfold_run), images)
    written = {path.name for path in (kfold_run / run_directory.FIGURES).iterdir()}
    assert written == {"gallery-report_cnn.png"}
    assert "no gallery of unet" in caplog.text
