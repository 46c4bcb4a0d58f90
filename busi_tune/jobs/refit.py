"""The end of a search: its best configurations again with fresh seeds, and the winner of those.

The best of many trials on one small validation part is best by luck too. Each candidate is
therefore trained again, with fresh weights and a fresh validation part per seed, and the winner is
the best of these means. It alone, beside the baselines, is scored on the closed test part, once.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from busi_tune import run_directory
from busi_tune.command_line import ClusterError
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.parallel import Progress, in_phase
from busi_tune.data.phases import Phases
from busi_tune.data.seeds import derive_seed
from busi_tune.data.splits import Split, redraw_validation
from busi_tune.jobs.common import images_at, place_training
from busi_tune.plan import Training, read_outcome
from busi_tune.results.gather import Reader, gather_predictions
from busi_tune.results.pages.winner import choose_winner
from busi_tune.run_directory import read_json, set_aside, write_atomic, write_json
from busi_tune.settings import override
from busi_tune.study.objectives import leading_trials, sign_of

logger = logging.getLogger(__name__)

RESULT_COLUMNS = (
    "best_value", "epochs", "best_epoch", "seconds", "num_parameters", "milliseconds_per_image",
    "num_workers", "converged",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A configuration that is trained again."""

    name: str
    trial: int | None
    """None for a baseline."""
    search_value: float | None
    """By which the search ranked it."""
    config: Config


def refit_seed(config: Config, refit: int) -> int:
    """Return the seed of a refit: of weights, order, augmentation and the validation part."""
    return derive_seed("refit", config.seed, refit) % 2**31


def refit_splits(split: Split, images: ImageSet, config: Config) -> dict[str, Split]:
    """Draw a validation part for each refit seed from the images of the search."""
    return {
        _split_name(refit): redraw_validation(
            split, images.labels, images.groups, refit_seed(config, refit)
        )
        for refit in range(config.search.refit_seeds if config.search.refit else 0)
    }


@dataclass(frozen=True)
class Refits:
    """The refits of a search whose trials have ended."""

    study: optuna.Study
    config: Config
    baselines: Mapping[str, Config]
    splits: Mapping[str, Split]
    """Of the refits by name, with the closed test part, which no training is given."""
    images: ImageSet
    run_dir: Path

    @property
    def number(self) -> int:
        """How many trainings there will be at most."""
        return (self.config.search.refit + len(self.baselines)) * len(self.splits)

    def candidates(self) -> list[Candidate]:
        """The best trials, best first, and the baselines."""
        leaders = leading_trials(self.study, self.config.search.refit)
        found = [
            Candidate(
                f"trial {trial.number}",
                trial.number,
                trial.values[0],
                override(self.config, trial.user_attrs["settings"]),
            )
            for trial in leaders
        ]
        return found + [Candidate(name, None, None, own) for name, own in self.baselines.items()]

    def place(self) -> list[Training]:
        """Make the trainings, seed by seed, so that candidates compare early."""
        if not self.splits or not leading_trials(self.study, 1):
            return []
        return [
            self._place(candidate, refit)
            for refit in range(len(self.splits))
            for candidate in self.candidates()
        ]

    def _place(self, candidate: Candidate, refit: int) -> Training:
        name = _split_name(refit)
        seeded = override(candidate.config, {"seed": refit_seed(self.config, refit)})
        identity = {"model": candidate.name, "trial": candidate.trial, "refit": refit}
        split = without_test(self.splits[name])
        label = f"{candidate.name} again, seed {refit + 1}"
        return place_training(label, identity, seeded, name, split, self.images, self.run_dir)

    def table(self) -> pd.DataFrame:
        """Return refits.csv: a row per refit, with its result as far as it has come."""
        values = {candidate.name: candidate.search_value for candidate in self.candidates()}
        rows = []
        for training in self.place():
            outcome = read_outcome(training.folder)
            row = {**training.identity, "search_value": values[training.identity["model"]]}
            row |= {"status": outcome.status, "reason": outcome.reason}
            row |= {"threshold": training.config.training.threshold}
            if outcome.failed and not (training.folder / run_directory.FAILURE).exists():
                row |= {"status": "open", "reason": ""}
            rows.append(row | {name: outcome.result.get(name) for name in RESULT_COLUMNS})
        columns = ["model", "trial", "refit", "key", "search_value", "status", *RESULT_COLUMNS]
        return pd.DataFrame(rows, columns=[*columns, "threshold", "reason"])

    def export(self) -> None:
        """Write refits.csv, a view of the refits' folders."""
        table = self.table().astype({"trial": "Int64"})
        write_atomic(self.run_dir / run_directory.REFITS, table.to_csv(index=False))

    def winner(self) -> Candidate | None:
        """The trial with the best mean over its refits; None where none has finished."""
        table = self.table().astype({"best_value": float})
        best = choose_winner(table, maximises=sign_of(self.study) > 0)
        return next((c for c in self.candidates() if c.name == best), None)

    def open_test_part(self, winner: Candidate) -> None:
        """Score the refits of the winner and the baselines on the closed test part, once.

        A search that grew afterwards and has another winner does not open it again.
        """
        first = self._opened_for(winner)
        if first != winner.name:
            logger.warning(
                "the closed test part was opened for %s: it is not opened again for %s; test that "
                "on other images",
                first,
                winner.name,
            )
            return
        logger.info("scoring %s on the closed test part", winner.name)
        for training in self.place():
            if training.identity["trial"] not in (None, winner.trial):
                continue
            path = training.folder / run_directory.CLOSED_TEST
            if not path.exists() and not read_outcome(training.folder).failed:
                test = self.splits[training.split].test
                images = images_at(training.config, self.images)
                with Phases() as show:
                    progress = in_phase(show, f"closed test part, {training.name}")
                    scored = _evaluate_best(training, images, test, progress)
                write_atomic(path, scored.to_csv(index=False))

    def _opened_for(self, winner: Candidate) -> str:
        """Return for whom the closed test part was opened; now for the winner, if for nobody."""
        path = self.run_dir / run_directory.OPENED
        try:
            return str(read_json(path)["winner"])
        except FileNotFoundError:
            name = winner.name
        except (ValueError, KeyError, TypeError):
            set_aside(path, "is damaged")
            closed = run_directory.CLOSED_TEST
            opened = [t for t in self.place() if (t.folder / closed).exists()]
            names = [str(t.identity["model"]) for t in opened if t.identity["trial"] is not None]
            name = names[0] if names else winner.name
        write_json(path, {"winner": name, "trials": len(self.study.trials)})
        return name

    def gather_images(self) -> None:
        """Bring together what the refits found on their images.

        refit_images.csv has a row per refit and image that validated or tested it; predictions/ the
        maps of the closed test part by the first refit of each that has looked at it.
        """
        of_first_seed = [training for training in self.place() if training.identity["refit"] == 0]
        looked = [t for t in of_first_seed if (t.folder / run_directory.CLOSED_TEST).exists()]
        gather_predictions(self.run_dir, looked, Reader())
        frames = []
        text = dict.fromkeys(("image", "label", "group", "part"), str)
        for training in self.place():
            for name in (run_directory.IMAGES, run_directory.CLOSED_TEST):
                if (training.folder / name).exists():
                    frame = pd.read_csv(training.folder / name, dtype=text, keep_default_na=False)
                    frame = frame.assign(**training.identity)
                    first = ["image", *training.identity]
                    frames.append(frame[first + [name for name in frame if name not in first]])
        table = pd.concat(frames) if frames else pd.DataFrame(columns=["image"])
        write_atomic(self.run_dir / run_directory.REFIT_IMAGES, table.to_csv(index=False))


def without_test(split: Split) -> Split:
    """Return a split whose test part stays closed."""
    return Split(split.train, split.validation, split.test[:0])


def _split_name(refit: int) -> str:
    return f"refit-{refit}"


def _load_best(training: Training, device: Any) -> dict[str, Any]:
    """Load a training's best epoch; one that is not whole leaves the training without a result."""
    from busi_tune.training.checkpoint import load_checkpoint

    path = training.folder / run_directory.BEST_CHECKPOINT
    try:
        return load_checkpoint(path, device)
    except (ValueError, FileNotFoundError) as error:
        if path.exists():
            set_aside(path, "is damaged")
        set_aside(training.folder / run_directory.RESULT, f"has no {path.name} any more")
        raise ClusterError(
            f"{training.name} cannot be scored: its best checkpoint was damaged or gone; --resume "
            "makes it anew"
        ) from error


def _evaluate_best(
    training: Training, images: ImageSet, indices: np.ndarray, progress: Progress | None
) -> pd.DataFrame:
    """Evaluate a training's best epoch at the operating point of its own validation part."""
    import torch

    from busi_tune.data.batches import DeviceImages
    from busi_tune.evaluation.evaluate import evaluate
    from busi_tune.evaluation.operating_point import OperatingPoint
    from busi_tune.models import restore_model
    from busi_tune.training.epoch import autocast
    from busi_tune.training.ranks import choose_device

    config, result = training.config, read_outcome(training.folder).result
    # The driver may be on a node without the GPUs of its workers.
    device = choose_device("cpu" if config.training.device == "cpu" else "auto")
    best = _load_best(training, device)
    model = restore_model(config.model, best["model"]).to(device)
    if config.training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    with autocast(device, config):
        evaluation = evaluate(
            model,
            images,
            DeviceImages(images, device),
            indices,
            threshold=config.training.threshold,
            batch_size=config.training.evaluation_batch_size,
            point=OperatingPoint(result["tuned_threshold"], result["tuned_component_px"]),
            predictions=training.folder / run_directory.PREDICTIONS,
            progress=progress,
        )
    evaluation.images.insert(1, "part", "test")
    return evaluation.images
