"""The run's own tables, as views of the folders of its finished trainings."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.counts import METRICS
from busi_tune.plan import Outcome, Training, read_outcome
from busi_tune.run_directory import write_atomic

logger = logging.getLogger(__name__)

TEXT = dict.fromkeys(("image", "label", "group", "part"), str)


class Reader:
    """Reads what trainings left. A finished one changes no more: its files are read once."""

    def __init__(self) -> None:
        self._outcomes: dict[Path, Outcome] = {}
        self._tables: dict[Path, pd.DataFrame] = {}
        self.shown: set[tuple[Path, Path]] = set()
        """Finished trainings whose predictions were brought together, and where."""

    def outcome(self, folder: Path) -> Outcome:
        """Read how a training ended."""
        if folder not in self._outcomes:
            outcome = read_outcome(folder)
            if outcome.failed:
                return outcome
            self._outcomes[folder] = outcome
        return self._outcomes[folder]

    def table(self, folder: Path, name: str) -> pd.DataFrame | None:
        """Read a table of a training, not to be changed; None where it has none."""
        path = folder / name
        if path in self._tables:
            return self._tables[path]
        finished = not self.outcome(folder).failed
        if not path.exists():
            return None
        table = pd.read_csv(path, dtype=TEXT, keep_default_na=False)
        if finished:
            self._tables[path] = table
        return table


def gather_run(run_dir: Path, trainings: Sequence[Training], reader: Reader | None = None) -> None:
    """Write every view of a cross-validation, as far as its trainings have come.

    Args:
        run_dir: the directory of the run.
        trainings: all of its trainings, in the order of their rows.
        reader: what was read before, where this is called again and again.
    """
    reader = reader or Reader()
    gather_folds(run_dir, trainings, reader)
    gather_failures(run_dir, trainings, reader)
    gather_epochs(run_dir, trainings, reader)
    gather_images(run_dir, trainings, reader)
    gather_thresholds(run_dir, trainings, reader)
    gather_logits(run_dir, trainings, reader)
    gather_predictions(run_dir, trainings, reader)


def warn_of_older(trainings: Sequence[Training]) -> None:
    """Say where rows of an earlier version will stand beside rows with more columns."""
    outcomes = [read_outcome(training.folder) for training in trainings]
    ended = [outcome for outcome in outcomes if not outcome.failed]
    older = [outcome for outcome in ended if outcome.result.get("tuned_threshold") is None]
    if older and len(ended) < len(outcomes):
        logger.warning(
            "%d finished training(s) are of an earlier version and lack columns of %s: once all "
            "are finished, experiments/rescore.py RUN scores them like the others",
            *(len(older), run_directory.IMAGES),
        )


def gather_epochs(
    run_dir: Path, trainings: Sequence[Training], reader: Reader | None = None
) -> None:
    """Write epochs.csv: the epochs of every training that has any, under its identity."""
    _gather(run_dir, run_directory.EPOCHS, trainings, reader or Reader())


def gather_images(
    run_dir: Path, trainings: Sequence[Training], reader: Reader | None = None
) -> None:
    """Write images.csv: a row per image and finished training, under its identity."""
    _gather(run_dir, run_directory.IMAGES, trainings, reader or Reader())


def gather_thresholds(
    run_dir: Path, trainings: Sequence[Training], reader: Reader | None = None
) -> None:
    """Write thresholds.csv: Dice over the threshold of every image and finished training.

    Trainings of earlier versions have none; then there is no file.
    """
    _gather_where_any(run_dir, run_directory.THRESHOLDS, trainings, reader or Reader())


def gather_logits(
    run_dir: Path, trainings: Sequence[Training], reader: Reader | None = None
) -> None:
    """Write logits.csv: the pixels at each logit, of every part and finished training.

    Trainings of earlier versions have none; then there is no file.
    """
    _gather_where_any(run_dir, run_directory.LOGITS, trainings, reader or Reader())


def gather_folds(run_dir: Path, trainings: Sequence[Training], reader: Reader) -> None:
    """Write folds.csv: a row per finished training with its cost and its test means."""
    rows = []
    for training in trainings:
        outcome = reader.outcome(training.folder)
        if not outcome.failed:
            images = reader.table(training.folder, run_directory.IMAGES)
            # A training on every image tests none.
            test = None if images is None else images[images["part"] == "test"]
            means = {"num_test": 0} if test is None else compute_test_means(test)
            rows.append({**training.identity, **outcome.result, **means})
    write_atomic(run_dir / run_directory.FOLDS, pd.DataFrame(rows).to_csv(index=False))


def gather_failures(run_dir: Path, trainings: Sequence[Training], reader: Reader) -> None:
    """Write failures.csv: a row per training that ended without a result, with the reason."""
    rows = [
        {**training.identity, "reason": outcome.reason}
        for training in trainings
        if (outcome := reader.outcome(training.folder)).failed
        and (training.folder / run_directory.FAILURE).exists()
    ]
    names = trainings[0].identity if trainings else {}
    table = pd.DataFrame(rows, columns=[*names, "reason"])
    write_atomic(run_dir / run_directory.FAILURES, table.to_csv(index=False))


def gather_predictions(run_dir: Path, trainings: Sequence[Training], reader: Reader) -> None:
    """Bring the maps of finished trainings' test images together, a folder per model and repeat."""
    for training in trainings:
        identity = training.identity
        repeat = f"-repeat-{identity['repeat']}" if identity.get("repeat") else ""
        target = run_dir / run_directory.PREDICTIONS / f"{identity['model']}{repeat}"
        if (training.folder, target) in reader.shown:
            continue
        if reader.outcome(training.folder).failed:
            continue  # its maps may be under way
        target.mkdir(parents=True, exist_ok=True)
        for image in sorted((training.folder / run_directory.PREDICTIONS).glob("*.png")):
            shown, content = target / image.name, image.read_bytes()
            # One made anew differs from that of the damaged training.
            if not shown.exists() or shown.read_bytes() != content:
                write_atomic(shown, content)
        reader.shown.add((training.folder, target))


def _gather_where_any(
    run_dir: Path, name: str, trainings: Sequence[Training], reader: Reader
) -> None:
    if any((training.folder / name).exists() for training in trainings):
        _gather(run_dir, name, trainings, reader)


def _gather(run_dir: Path, name: str, trainings: Sequence[Training], reader: Reader) -> None:
    frames = []
    for training in trainings:
        # A training counts from its result on; its epochs are looked at while it goes on.
        if name != run_directory.EPOCHS and reader.outcome(training.folder).failed:
            continue
        kept = reader.table(training.folder, name)
        if kept is not None:
            frame = kept.copy()
            for position, (column, value) in enumerate(training.identity.items()):
                frame.insert(position, column, value)
            frames.append(frame)
    table = pd.concat(frames) if frames else pd.DataFrame()
    first = [column for column in ("image",) if column in table]
    table = table[first + [column for column in table if column not in first]]
    write_atomic(run_dir / name, table.to_csv(index=False))


def compute_test_means(test: pd.DataFrame) -> dict[str, float]:
    """Average the test images of a training, as folds.csv has them."""
    tumour = test[test["tp"] + test["fn"] > 0]
    means = {name: test[name].mean() for name in METRICS}
    return means | {"dice_tumour": tumour["dice"].mean(), "num_test": len(test)}
