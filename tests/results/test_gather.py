import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from busi_tune.config import Config
from busi_tune.plan import Training
from busi_tune.results.gather import (
    Reader,
    gather_epochs,
    gather_logits,
    gather_run,
    gather_thresholds,
    warn_of_older,
)


def place(run_dir: Path, fold: int) -> Training:
    identity = {"model": "unet", "repeat": 0, "fold": fold, "key": f"00{fold}"}
    return Training(f"unet {fold}", identity, Config(), f"fold-{fold}", run_dir / str(fold))


def end(training: Training) -> None:
    (training.folder / "result.json").write_text('{"status": "finished"}')


def test_thresholds_of_finished_trainings_come_together(tmp_path: Path) -> None:
    trainings = [place(tmp_path, fold) for fold in range(3)]
    for fold in (0, 2):
        trainings[fold].folder.mkdir()
        rows = f"image,label,group,part,dice_0.05,dice_0.10\n00{fold},benign,1e3,test,0.125,0.25\n"
        (trainings[fold].folder / "thresholds.csv").write_text(rows)
        end(trainings[fold])
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


def test_logits_of_finished_trainings_come_together(tmp_path: Path) -> None:
    trainings = [place(tmp_path, fold) for fold in range(2)]
    trainings[1].folder.mkdir()
    (trainings[1].folder / "logits.csv").write_text("part,logit,pixels\ntest,0,12\n")
    end(trainings[1])
    gather_logits(tmp_path, trainings)
    table = pd.read_csv(tmp_path / "logits.csv", dtype=str)
    assert table.to_dict("records") == [
        {"model": "unet", "repeat": "0", "fold": "1", "key": "001"}
        | {"part": "test", "logit": "0", "pixels": "12"}
    ]


def test_runs_made_before_there_were_thresholds_and_logits_gather_none(tmp_path: Path) -> None:
    for gather in (gather_thresholds, gather_logits):
        gather(tmp_path, [place(tmp_path, 0)])
    assert not list(tmp_path.iterdir())


def finish(training: Training, **result: Any) -> None:
    """Leave what a finished training leaves."""
    maps = training.folder / "predictions"
    maps.mkdir(parents=True)
    number = training.identity["fold"]
    header = "image,label,group,part,tp,fp,fn,tn,dice,iou,pixel_f1,precision,recall,specificity"
    row = f"00{number},benign,1e3,test,1,1,1,1,0.5,0.25,0.5,0.5,0.5,0.5"
    (training.folder / "images.csv").write_text(f"{header}\n{row}\n")
    (training.folder / "epochs.csv").write_text("epoch,val_dice\n1,0.25\n")
    (training.folder / "thresholds.csv").write_text(f"image,dice_0.05\n00{number},0.5\n")
    (maps / f"00{number}.png").write_bytes(b"map")
    content = {"status": "finished", "best_value": 0.5} | result
    (training.folder / "result.json").write_text(json.dumps(content))


def contents(run_dir: Path) -> dict[str, bytes]:
    names = ("folds.csv", "epochs.csv", "images.csv", "thresholds.csv")
    return {name: (run_dir / name).read_bytes() for name in names}


def test_tables_of_finished_trainings_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[Path] = Counter()
    read_csv = pd.read_csv

    def count(path: Path, **options: Any) -> pd.DataFrame:
        reads[path] += 1
        return read_csv(path, **options)

    trainings = [place(tmp_path / "trainings", fold) for fold in range(5)]
    monkeypatch.setattr(pd, "read_csv", count)
    reader = Reader()
    for training in trainings:
        finish(training)
        gather_run(tmp_path, trainings, reader)
    assert set(reads.values()) == {1} and len(reads) == 3 * len(trainings)
    written = contents(tmp_path)
    gather_run(tmp_path, trainings)
    assert contents(tmp_path) == written
    assert len(list((tmp_path / "predictions" / "unet").iterdir())) == len(trainings)


def test_a_training_counts_and_is_shown_once_it_has_its_result(tmp_path: Path) -> None:
    training, reader = place(tmp_path / "trainings", 0), Reader()
    finish(training)
    result = (training.folder / "result.json").read_text()
    (training.folder / "result.json").unlink()
    (training.folder / "failure.json").write_text('{"reason": "no memory", "retry": false}')
    gather_run(tmp_path, [training], reader)
    assert not list((tmp_path / "predictions").glob("*/*"))
    assert (tmp_path / "images.csv").read_text().strip() == ""
    failures = pd.read_csv(tmp_path / "failures.csv", dtype=str).to_dict("records")
    assert failures == [
        {"model": "unet", "repeat": "0", "fold": "0", "key": "000", "reason": "no memory"}
    ]
    (training.folder / "result.json").write_text(result)
    gather_run(tmp_path, [training], reader)
    assert len(list((tmp_path / "predictions").glob("*/*"))) == 1
    assert (
        len(pd.read_csv(tmp_path / "images.csv")) and pd.read_csv(tmp_path / "failures.csv").empty
    )


def test_the_map_of_a_training_made_anew_takes_the_place_of_the_old(tmp_path: Path) -> None:
    training = place(tmp_path / "trainings", 0)
    finish(training)
    gather_run(tmp_path, [training])
    (shown,) = (tmp_path / "predictions" / "unet").iterdir()
    (training.folder / "predictions" / shown.name).write_bytes(b"another")
    gather_run(tmp_path, [training])
    assert shown.read_bytes() == b"another"


def test_a_training_under_way_is_read_anew(tmp_path: Path) -> None:
    training, reader = place(tmp_path / "trainings", 0), Reader()
    training.folder.mkdir(parents=True)
    for epochs in (1, 2):
        rows = "".join(f"{epoch},0.5\n" for epoch in range(epochs))
        (training.folder / "epochs.csv").write_text(f"epoch,val_dice\n{rows}")
        gather_epochs(tmp_path, [training], reader)
        assert len(pd.read_csv(tmp_path / "epochs.csv")) == epochs


@pytest.mark.parametrize(
    ("old", "new", "warned"), [(1, 0, True), (1, 1, True), (0, 2, False), (3, 0, False)]
)
def test_a_run_half_finished_by_an_earlier_version_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: int, new: int, warned: bool
) -> None:
    trainings = [place(tmp_path, fold) for fold in range(3)]
    for number, training in enumerate(trainings[: old + new]):
        finish(training, **({} if number < old else {"tuned_threshold": 0.5}))
    with caplog.at_level(logging.WARNING):
        warn_of_older(trainings)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == warned
    if warned:
        assert "\n" not in lines[0] and "experiments/rescore.py" in lines[0]
        assert lines[0].startswith("1 finished training(s) are of an earlier version")
