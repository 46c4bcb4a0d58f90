from pathlib import Path

import pytest

from busi_tune.report import main
from busi_tune.results.read import read_table


def test_a_run_that_lost_its_rows_of_images_is_refused_by_name(
    kfold_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kfold_run / "images.csv").unlink()
    assert main([str(kfold_run), "--data_root", str(kfold_run / "none")]) == 2
    error = capsys.readouterr().err
    assert f"{kfold_run} has finished trainings in folds.csv but no images.csv" in error
    assert f"--resume {kfold_run}" in error


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "1e5", "007"])
def test_a_name_is_a_name_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    path = tmp_path / "images.csv"
    path.write_text(f"image,group,label,dice\n{name},{name},{name},\n,,,0.5\n")
    table = read_table(path, [])
    assert table.loc[0, ["image", "group", "label"]].tolist() == [name] * 3
    assert table["group"].isna().tolist() == [False, True]
    assert table["dice"].isna().tolist() == [True, False]
