"""The run's own tables, as views of the folders of its finished trainings."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.counts import METRICS
from busi_tune.plan import Training, read_outcome
from busi_tune.run_directory import write_atomic

TEXT = dict.fromkeys(("image", "label", "group", "part"), str)


def gather_run(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Write every view of a cross-validation, as far as its trainings have come."""
    gather_folds(run_dir, trainings)
    gather_epochs(run_dir, trainings)
    gather_images(run_dir, trainings)
    gather_thresholds(run_dir, trainings)
    gather_predictions(run_dir, trainings)


def gather_epochs(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Write epochs.csv: the epochs of every training that has any, under its identity."""
    _gather(run_dir / run_directory.EPOCHS, run_directory.EPOCHS, trainings)


def gather_images(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Write images.csv: a row per image and finished training, under its identity."""
    _gather(run_dir / run_directory.IMAGES, run_directory.IMAGES, trainings)


def gather_thresholds(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Write thresholds.csv: Dice over the threshold of every image and finished training.

    Trainings of earlier versions have none; then there is no file.
    """
    if any((training.folder / run_directory.THRESHOLDS).exists() for training in trainings):
        _gather(run_dir / run_directory.THRESHOLDS, run_directory.THRESHOLDS, trainings)


def gather_folds(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Write folds.csv: a row per finished training with its cost and its test means."""
    rows = []
    for training in trainings:
        outcome = read_outcome(training.folder)
        if not outcome.failed:
            rows.append({**training.identity, **outcome.result, **_test_means(training.folder)})
    write_atomic(run_dir / run_directory.FOLDS, pd.DataFrame(rows).to_csv(index=False))


def gather_predictions(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Bring the predictions of the test images together, a folder per model and repeat."""
    for training in trainings:
        identity = training.identity
        repeat = f"-repeat-{identity['repeat']}" if identity["repeat"] else ""
        target = run_dir / run_directory.PREDICTIONS / f"{identity['model']}{repeat}"
        target.mkdir(parents=True, exist_ok=True)
        for image in sorted((training.folder / run_directory.PREDICTIONS).glob("*.png")):
            if not (target / image.name).exists():
                write_atomic(target / image.name, image.read_bytes())


def _gather(target: Path, name: str, trainings: Sequence[Training]) -> None:
    frames = []
    for training in trainings:
        if (training.folder / name).exists():
            frame = pd.read_csv(training.folder / name, dtype=TEXT, keep_default_na=False)
            for position, (column, value) in enumerate(training.identity.items()):
                frame.insert(position, column, value)
            frames.append(frame)
    table = pd.concat(frames) if frames else pd.DataFrame()
    first = [column for column in ("image",) if column in table]
    table = table[first + [column for column in table if column not in first]]
    write_atomic(target, table.to_csv(index=False))


def _test_means(folder: Path) -> dict[str, float]:
    images = pd.read_csv(folder / run_directory.IMAGES, dtype=TEXT, keep_default_na=False)
    test = images[images["part"] == "test"]
    tumour = test[test["tp"] + test["fn"] > 0]
    means = {name: test[name].mean() for name in METRICS}
    return means | {"dice_tumour": tumour["dice"].mean(), "num_test": len(test)}
