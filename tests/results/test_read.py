from pathlib import Path

import pytest

from busi_tune.report import main


def test_a_run_that_lost_its_rows_of_images_is_refused_by_name(
    kfold_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kfold_run / "images.csv").unlink()
    assert main([str(kfold_run), "--data_root", str(kfold_run / "none")]) == 2
    error = capsys.readouterr().err
    assert f"{kfold_run} has finished trainings in folds.csv but no images.csv" in error
    assert f"--resume {kfold_run}" in error
