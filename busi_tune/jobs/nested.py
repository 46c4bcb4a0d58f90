"""Nested cross-validation: a search inside the training set of every fold, and its winner.

A trial trains on the fold's train part and is judged on its validation part; its split has no test
part. The winner's training has the whole split, so the fold is looked at once, when all is chosen.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.seeds import derive_seed
from busi_tune.data.splits import Split, read_split_key
from busi_tune.jobs.common import place_training
from busi_tune.jobs.folds import fold_label, place_fold, seed_repeat
from busi_tune.jobs.space import check_space
from busi_tune.kfold_models import NESTED, resolve_search
from busi_tune.plan import FollowedPlan, Plan, Training
from busi_tune.run_directory import write_atomic
from busi_tune.search_space import Dimension, compile_space
from busi_tune.settings import override
from busi_tune.study.objectives import best_trial
from busi_tune.study.storage import open_study
from busi_tune.study.tables import trials_table
from busi_tune.study.trials import StudyPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldSearch:
    """The search inside one fold."""

    study: optuna.Study
    config: Config
    """The search's configuration, with the seed of the fold's repeat."""
    space: list[Dimension]
    name: str
    """Of the fold in splits.json."""
    split: Split
    images: ImageSet
    run_dir: Path

    @property
    def inner_name(self) -> str:
        """The name of the split that the trials are given."""
        return f"{self.name}/search"

    @property
    def inner_split(self) -> Split:
        """The fold without its test part."""
        return replace(self.split, test=self.split.test[:0])

    def plan(self, after_trial: Callable[[], None], after_winner: Callable[[], None]) -> Plan:
        """Return the trials and then the winner's training as a plan."""
        repeat, fold = read_split_key(self.name)
        # Every fold's search draws its own trials: shared ones would make the folds' winners alike.
        seed = derive_seed("search", self.config.seed, repeat, fold) % 2**31
        config = override(self.config, {"seed": seed})
        trials = StudyPlan(self.study, config, self.space, self.place_trial, after_trial)
        return FollowedPlan(trials, self._place_winners, after_winner)

    def place_trial(self, number: int, settings: Mapping[str, Any]) -> list[Training]:
        """Make the training of a trial."""
        training = place_training(
            f"trial {number} {fold_label(self.name)}",
            {"trial": number},
            override(self.config, settings),
            self.inner_name,
            self.inner_split,
            self.images,
            self.run_dir,
        )
        return [training]

    def winner(self) -> optuna.trial.FrozenTrial | None:
        """The best trial, once all have ended; None before, or where none was completed."""
        trials = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished()]
        return best_trial(self.study) if len(ended) >= self.config.search.num_trials else None

    def place_winner(self) -> Training | None:
        """Make the training of the winner on the whole fold."""
        winner = self.winner()
        if winner is None:
            return None
        config = override(self.config, winner.user_attrs["settings"])
        return place_fold(NESTED, config, self.name, self.split, self.images, self.run_dir)

    def _place_winners(self) -> list[Training]:
        winner = self.place_winner()
        return [winner] if winner else []

    def trials(self) -> pd.DataFrame:
        """Return a row per trial; `chosen` marks the winner."""
        repeat, fold = read_split_key(self.name)
        table = trials_table(self.study, self.space)
        table.insert(0, "repeat", repeat)
        table.insert(1, "fold", fold)
        winner = self.winner()
        table.insert(3, "chosen", table["trial"] == (-1 if winner is None else winner.number))
        return table


@dataclass(frozen=True)
class NestedSearch:
    """What is searched inside every fold."""

    config: Config
    space: list[Dimension]
    examples: Mapping[str, Config]
    """A sample of each architecture and encoder of the space."""


def check_search(config: Config) -> NestedSearch | None:
    """Refuse a nested search that could not run, before anything starts.

    Raises:
        ValueError: a rule that a sample of its space breaks, or a network that cannot be built.
    """
    resolved = resolve_search(config)
    if resolved is None:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = compile_space(resolved.search.space)
    try:
        return NestedSearch(resolved, space, check_space(space, resolved))
    except ValueError as error:
        raise ValueError(f"kfold.search: {error}") from error


@contextlib.contextmanager
def open_searches(
    search: NestedSearch | None, splits: Mapping[str, Split], images: ImageSet, run_dir: Path
) -> Iterator[list[FoldSearch]]:
    """Open or make the study of every fold; none where nothing is searched."""
    with contextlib.ExitStack() as stack:
        searches = []
        for name, split in splits.items() if search else ():
            assert search is not None
            config = seed_repeat(search.config, name)
            path = run_dir / run_directory.STUDIES / f"{name.replace('/', '-')}.db"
            path.parent.mkdir(exist_ok=True)
            study = stack.enter_context(open_study(path, config))
            searches.append(FoldSearch(study, config, search.space, name, split, images, run_dir))
        yield searches


def export_nested_trials(searches: Sequence[FoldSearch], run_dir: Path) -> None:
    """Write nested_trials.csv, a view of the studies of all folds."""
    if not searches:
        return
    table = pd.concat([search.trials() for search in searches])
    write_atomic(run_dir / run_directory.NESTED_TRIALS, table.to_csv(index=False))


def report_failures(searches: Sequence[FoldSearch]) -> bool:
    """Say which trials failed and which folds have no winner; return whether any did."""
    some = False
    for search in searches:
        for trial in search.study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.FAIL:
                name, reason = fold_label(search.name), trial.user_attrs.get("reason")
                logger.error("trial %d %s failed: %s", trial.number, name, reason)
                some = True
        if search.winner() is None:
            logger.error("the search of %s has no winner", fold_label(search.name))
            some = True
    return some
