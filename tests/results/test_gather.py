from pathlib import Path

import pandas as pd

from busi_tune.config import Config
from busi_tune.plan import Training
from busi_tune.results.gather import gather_thresholds


def place(run_dir: Path, fold: int) -> Training:
    identity = {"model": "unet", "repeat": 0, "fold": fold, "key": f"00{fold}"}
    return Training(f"unet {fold}", identity, Config(), f"fold-{fold}", run_dir / str(fold))


def test_thresholds_of_finished_trainings_come_together(tmp_path: Path) -> None:
    trainings = [place(tmp_path, fold) for fold in range(3)]
    for fold in (0, 2):
        trainings[fold].folder.mkdir()
        rows = f"image,label,group,part,dice_0.05,dice_0.10\n00{fold},benign,1e3,test,0.125,0.25\n"
        (trainings[fold].folder / "thresholds.csv").write_text(rows)
    gather_thresholds(tmp_path, trainings)
    table = pd.read_csv(tmp_path / "thresholds.csv", dtype=str)
    assert table.to_dict("records") == [
        {
            "image": f"00{fold}", "model": "unet", "repeat": "0", "fold": str(fold),
            "key": f"00{fold}", "label": "benign", "group": "1e3", "part": "test",
            "dice_0.05": "0.125", "dice_0.10": "0.25",
        }
        for fold in (0, 2)
    ]  # fmt: skip


def test_runs_made_before_there_were_thresholds_gather_none(tmp_path: Path) -> None:
    gather_thresholds(tmp_path, [place(tmp_path, 0)])
    assert not (tmp_path / "thresholds.csv").exists()
