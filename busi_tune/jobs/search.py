"""The search: trials over one development part, and the best of them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from busi_tune import run_directory
from busi_tune.command_line import DONE, SOME_FAILED, Options
from busi_tune.config import Config
from busi_tune.data.cache import Form, ImageSet
from busi_tune.data.splits import Split, make_holdout, make_inner_folds
from busi_tune.jobs.common import (
    check_models,
    images_at,
    load_run_images,
    open_run,
    open_storage,
    place_training,
    refuse_other_code,
    run_on_cluster,
    take_up,
    write_tables_and_figures,
)
from busi_tune.jobs.disk import check_disk, remove_lost_checkpoints
from busi_tune.jobs.dry_run import show_plan, show_space
from busi_tune.jobs.forecast import plan_search
from busi_tune.jobs.refit import Refits, refit_splits, without_test
from busi_tune.jobs.space import read_space
from busi_tune.plan import FollowedPlan, JoinedPlan, ListPlan, Plan, Training, read_outcome
from busi_tune.remote.run import StoredRun
from busi_tune.results.gather import gather_epochs, gather_images
from busi_tune.run_directory import was_set_aside, write_atomic
from busi_tune.search_space import Dimension, image_sizes, image_ways
from busi_tune.settings import override, to_yaml
from busi_tune.study.objectives import best_trial
from busi_tune.study.starts import Known, keep_known, read_known
from busi_tune.study.storage import copy_study, open_study
from busi_tune.study.tables import TrialsExport
from busi_tune.study.trials import Place, StudyPlan
from busi_tune.trackers import check_trackers, open_trackers

logger = logging.getLogger(__name__)

SPLIT = "search"


def run_search(options: Options) -> int:
    """Try configurations until all trials are done, train the best again and name the winner."""
    config, run_dir = options.config, options.run_dir
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_trackers(config.search.trackers)
    space, samples = read_space(options)
    known = read_known(config, space, run_dir)
    check_models(known.baselines)
    parts = plan_search(samples, known.baselines, config.search)
    storage = open_storage(options)
    images = load_run_images(options, "search")
    if options.dry_run:
        show_space(space)
        split = make_splits(images, config)[SPLIT]
        show_plan(parts, images, split, config, run_dir)
        return DONE
    check_disk(parts, options)
    sets = load_forms(config, images)
    with (
        open_run(
            "search", options, images, lambda: make_closed(images, config, known), storage
        ) as splits,
        open_study(run_dir / run_directory.STUDY, config) as study,
    ):
        keep_known(known, run_dir)
        search = Search(study, config, space, known, splits, images, run_dir, storage=storage)
        plan, left = search.plan()
        take_up(run_dir, plan, config)
        splits, ended = search.development, search.ended()
        with open_trackers(config, run_dir) as trackers:
            run_on_cluster(
                plan, sets, splits, config, run_dir.name, ended, left, trackers, storage=storage
            )
        return search.close()


@dataclass(frozen=True)
class Search:
    """A search under way."""

    study: optuna.Study
    config: Config
    space: list[Dimension]
    known: Known
    splits: Mapping[str, Split]
    images: ImageSet
    run_dir: Path
    settled: set[str] = field(default_factory=set)
    """Trainings whose checkpoints are gone already, or needed to make their result anew."""
    storage: StoredRun | None = None
    """The run's place in a storage that is no folder."""

    @property
    def development(self) -> dict[str, Split]:
        """All splits as trainings are given them: the test part stays closed."""
        return {name: without_test(split) for name, split in self.splits.items()}

    @property
    def refits(self) -> Refits:
        """What comes after the trials."""
        splits = {n: split for n, split in self.splits.items() if n.startswith("refit-")}
        return Refits(
            self.study, self.config, self.known.baselines, splits, self.images, self.run_dir
        )

    def plan(self) -> tuple[Plan, float | None]:
        """Return the trials and the refits as a plan, and the seconds that the budget leaves.

        Raises:
            ValueError: other code would train what is open; nothing is written then.
        """
        again, refits = self.without_result(), self.refits
        refuse_other_code(self.run_dir, [*again, *refits.place()])
        self.settled.update(training.folder.name for training in again)
        trials = StudyPlan(
            self.study, self.config, self.space, self.place, self.export, self.known.starts
        )
        followed = FollowedPlan(trials, self.follow, refits.export, refits.number)
        return JoinedPlan([ListPlan(again), followed]), trials.limits.seconds_left()

    def place(self, number: int, settings: Mapping[str, Any]) -> list[Training]:
        """Make the trainings of a trial: one, or one per inner fold."""
        own = override(self.config, settings)
        folds = [name for name in self.splits if name.startswith(f"{SPLIT}/")]
        trainings = []
        for fold, name in enumerate(folds or [SPLIT]):
            label = f"trial {number} fold {fold}" if folds else f"trial {number}"
            identity = {"trial": number} | ({"fold": fold} if folds else {})
            parts = self.development[name]
            trainings.append(
                place_training(label, identity, own, name, parts, self.images, self.run_dir)
            )
        return trainings

    @cached_property
    def table(self) -> TrialsExport:
        """trials.csv."""
        return TrialsExport(self.study, self.space, self.run_dir)

    def ended(self) -> list[Training]:
        """Make the trainings of the trials that have ended."""
        return place_ended(self.study, self.place)

    def without_result(self) -> list[Training]:
        """Return those of them whose result was damaged and is not made anew yet."""
        return [t for t in self.ended() if was_set_aside(t.folder / run_directory.RESULT)]

    def export(self) -> None:
        """Write what a trial that has ended changes beside the study."""
        self.table.write_if_due()
        copy_study(self.run_dir / run_directory.STUDY)
        remove_lost_checkpoints(self.study, self.config, self.run_dir, self.settled, self.storage)

    def follow(self) -> list[Training]:
        """Write the best trial's configuration, and return the refits."""
        self.table.write()
        best, refits = best_trial(self.study), self.refits.place()
        if best is not None and not (refits and (self.run_dir / run_directory.BEST).exists()):
            self.write_best(override(self.config, best.user_attrs["settings"]))
        return refits

    def close(self) -> int:
        """Name the winner, look at the closed test part, and write tables and figures."""
        self.export()
        self.table.write()
        close_refits(self.refits, self.write_best)
        trainings = self.ended()
        gather_epochs(self.run_dir, trainings)
        gather_images(self.run_dir, trainings)
        write_tables_and_figures(self.run_dir, self.images)
        return report_end(self.study, self.without_result(), self.refits, self.run_dir)

    def write_best(self, config: Config) -> None:
        """Write best.yaml: a configuration and the images on which it was chosen.

        Whoever trains it gets a test part, whatever data.split was here: a search has its own.
        """
        split = self.splits[SPLIT]
        seen = {self.images.names[index] for index in (*split.train, *split.validation)}
        chosen_on = sorted(seen | self.known.chosen_on)
        best = override(config, {"data.chosen_on": chosen_on, "data.split": "holdout"})
        write_atomic(self.run_dir / run_directory.BEST, to_yaml(best))


def load_forms(config: Config, images: ImageSet) -> dict[Form, ImageSet]:
    """Decode the images in every size and way of resizing that a trial or a baseline may have."""
    sizes, ways = image_sizes(config), image_ways(config)
    if len(sizes) * len(ways) > 1:
        listed = ", ".join(map(str, sizes))
        logger.info("the search has images of %s pixels, resized by %s", listed, ", ".join(ways))
    return {
        (size, way): images_at(
            override(config, {"data.image_size": size, "data.resize": way}), images
        )
        for size in sizes
        for way in ways
    }


def make_closed(images: ImageSet, config: Config, known: Known) -> dict[str, Split]:
    """Draw the splits of a new search, whose closed test part no known configuration has seen.

    Raises:
        ValueError: one was chosen on some of its images.
    """
    splits = make_splits(images, config)
    test = {images.names[index] for index in splits[SPLIT].test}
    seen = len(test & known.chosen_on)
    if seen:
        raise ValueError(
            f"search.start or search.baselines: a configuration was chosen on {seen} of the "
            f"{len(test)} images of this search's closed test part (data.chosen_on in its file); "
            "take the --seed of the search that chose it, or leave it out"
        )
    return splits


def make_splits(images: ImageSet, config: Config) -> dict[str, Split]:
    """Draw the hold-out split, its inner folds and the validation parts of the refits.

    All have the same test part, which stays closed while anything is trained or chosen.
    """
    whole = make_holdout(images.labels, images.groups, config.seed)
    splits = {SPLIT: whole} | refit_splits(whole, images, config)
    if config.search.inner_folds > 1:
        folds = make_inner_folds(
            whole, images.labels, images.groups, config.search.inner_folds, config.seed
        )
        splits |= {f"{SPLIT}/fold-{fold}": split for fold, split in enumerate(folds)}
    return splits


def close_refits(refits: Refits, write_best: Callable[[Config], None]) -> None:
    """Name the winner of the refits, write its configuration and look at the closed test part."""
    if not refits.place():
        return
    refits.export()
    winner = refits.winner()
    if winner is not None:
        write_best(winner.config)
        refits.open_test_part(winner)
    refits.gather_images()


def place_ended(study: optuna.Study, place: Place) -> list[Training]:
    """Make the trainings of the trials that have ended."""
    return [
        training
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and "settings" in trial.user_attrs
        for training in place(trial.number, trial.user_attrs["settings"])
    ]


def report_end(
    study: optuna.Study, without_result: Sequence[Training], refits: Refits, run_dir: Path
) -> int:
    """Say which configuration won and which trainings failed."""
    failures = {
        f"trial {trial.number}": trial.user_attrs.get("reason")
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    }
    for training in (*without_result, *refits.place()):
        outcome = read_outcome(training.folder)
        if outcome.failed:
            failures[training.name] = outcome.reason
    for name, reason in failures.items():
        logger.error("%s failed: %s", name, reason)
    best, winner = best_trial(study), refits.winner()
    if best is None:
        logger.error(
            "no trial is complete, so there is no best configuration: raise search.budget or "
            "search.num_trials and --resume %s",
            run_dir,
        )
        return SOME_FAILED
    logger.info("best in the search: trial %d, %.4f, %s", best.number, best.values[0], best.params)
    if winner is not None:
        logger.info("winner after refits: %s", winner.name)
    if (run_dir / run_directory.BEST).exists():
        logger.info("its configuration: %s", run_dir / run_directory.BEST)
    return SOME_FAILED if failures else DONE
