"""The search: trials over one development part, and the best of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from busi_tune import run_directory
from busi_tune.command_line import DONE, SOME_FAILED, Options
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split, make_holdout, make_inner_folds
from busi_tune.jobs.common import (
    check_models,
    images_at,
    load_run_images,
    open_run,
    place_training,
    run_on_cluster,
    write_tables_and_figures,
)
from busi_tune.jobs.disk import remove_lost_checkpoints
from busi_tune.jobs.dry_run import show_plan, show_space
from busi_tune.jobs.forecast import plan_search
from busi_tune.jobs.refit import Refits, refit_splits, without_test
from busi_tune.plan import FollowedPlan, Training, read_outcome
from busi_tune.results.gather import gather_epochs, gather_images
from busi_tune.run_directory import write_atomic
from busi_tune.search_space import Dimension, compile_space, image_sizes, sample
from busi_tune.settings import check_config, override, to_yaml
from busi_tune.study.objectives import best_trial
from busi_tune.study.starts import find_starts, read_baselines
from busi_tune.study.storage import copy_study, open_study
from busi_tune.study.tables import export_trials
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
    starts, baselines = find_starts(config, space), read_baselines(config)
    check_models(baselines)
    images = load_run_images(options, "search")
    if options.dry_run:
        show_space(space)
        split = make_splits(images, config)[SPLIT]
        show_plan(plan_search(samples, baselines, config.search), images, split, config, run_dir)
        return DONE
    sets = load_sizes(config, images)
    with (
        open_run("search", options, images, lambda: make_splits(images, config)) as splits,
        open_study(run_dir / run_directory.STUDY, config) as study,
        open_trackers(config, run_dir) as trackers,
    ):
        trial_splits, refitted = _part_splits(splits, config)
        refits = Refits(study, config, baselines, refitted, images, run_dir)

        def place(number: int, settings: Mapping[str, Any]) -> list[Training]:
            own = override(config, settings)
            return place_trial(number, own, trial_splits, images, run_dir)

        def follow() -> list[Training]:
            best = best_trial(study)
            if best is not None:
                chosen = override(config, best.user_attrs["settings"])
                write_best(chosen, splits[SPLIT], images, run_dir)
            return refits.place()

        removed: set[str] = set()

        def export() -> None:
            export_trials(study, space, run_dir)
            copy_study(run_dir / run_directory.STUDY)
            remove_lost_checkpoints(study, config, run_dir, removed)

        trials = StudyPlan(study, config, space, place, export, starts)
        plan = FollowedPlan(trials, follow, refits.export, refits.number)
        earlier = place_ended(study, place)
        development = {name: without_test(split) for name, split in splits.items()}
        left = trials.limits.seconds_left()
        run_on_cluster(plan, sets, development, config, earlier, left, trackers)
        export()
        close_search(refits, config, splits[SPLIT], images, run_dir)
        write_run(place_ended(study, place), images, run_dir)
        return report_end(study, refits, run_dir)


def load_sizes(config: Config, images: ImageSet) -> dict[int, ImageSet]:
    """Decode the images at every size that a trial or a baseline may have."""
    sizes = image_sizes(config)
    if len(sizes) > 1:
        logger.info("the search has images of %s pixels", ", ".join(map(str, sizes)))
    return {size: images_at(override(config, {"data.image_size": size}), images) for size in sizes}


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


def _part_splits(
    splits: Mapping[str, Split], config: Config
) -> tuple[dict[str, Split], dict[str, Split]]:
    """Part the splits of the trials from those of the refits."""
    refitted = {name: split for name, split in splits.items() if name.startswith("refit-")}
    folds = {name: split for name, split in splits.items() if name.startswith(f"{SPLIT}/")}
    return folds or {SPLIT: splits[SPLIT]}, refitted


def place_trial(
    number: int, config: Config, splits: Mapping[str, Split], images: ImageSet, run_dir: Path
) -> list[Training]:
    """Make the trainings of a trial: one, or one per inner fold."""
    trainings = []
    for fold, (name, split) in enumerate(splits.items()):
        alone = len(splits) == 1
        label = f"trial {number}" + ("" if alone else f" fold {fold}")
        identity = {"trial": number} | ({} if alone else {"fold": fold})
        parts = without_test(split)
        trainings.append(place_training(label, identity, config, name, parts, images, run_dir))
    return trainings


def read_space(options: Options) -> tuple[list[Dimension], dict[str, Config]]:
    """Compile the search space and draw an example of each architecture and encoder.

    Raises:
        ValueError: a mistake in the space; names the file that it comes from.
    """
    config = options.config
    try:
        space = compile_space(config.search.space)
        return space, check_space(space, config)
    except ValueError as error:
        source = f"{options.space_source}: " if options.space_source else ""
        raise ValueError(f"{source}{error}") from error


def check_space(
    space: list[Dimension], config: Config, num_samples: int = 200
) -> dict[str, Config]:
    """Refuse a space whose samples no training could run with, by drawing some.

    Returns:
        An example of each architecture and encoder that was drawn.

    Raises:
        ValueError: a rule that a sample breaks, or a network that cannot be built.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    checked: set[tuple[object, ...]] = set()
    examples: dict[str, Config] = {}
    for _ in range(num_samples):
        settings = sample(space, study.ask())
        resolved = override(config, settings)
        try:
            check_config(resolved)
            _check_network(resolved, checked)
        except ValueError as error:
            raise ValueError(f"search.space allows {settings}, but: {error}") from error
        model = resolved.model
        encoder = "" if model.architecture in ("unet", "report_cnn") else f" {model.encoder}"
        examples.setdefault(f"{model.architecture}{encoder}", resolved)
    return examples


def _check_network(config: Config, checked: set[tuple[object, ...]]) -> None:
    """Check a network at its size, and once for all sizes that its weights can be had."""
    from busi_tune.models import check_model

    model, size = config.model, config.data.image_size
    scratch = replace(model, encoder_weights="none", dropout=0.0)
    weights = (model.architecture, model.encoder, model.encoder_weights)
    network = (repr(scratch), size)
    if weights not in checked:
        check_model(model, size)
    elif network not in checked:
        check_model(scratch, size)
    checked |= {weights, network}


def close_search(
    refits: Refits, config: Config, split: Split, images: ImageSet, run_dir: Path
) -> None:
    """Name the winner of the refits, write best.yaml and look at the closed test part."""
    if not refits.place():
        return
    refits.export()
    winner = refits.winner()
    if winner is not None:
        write_best(winner.config, split, images, run_dir)
        logger.info("scoring %s on the closed test part", winner.name)
        refits.open_test_part(winner)
    refits.gather_images()


def write_best(config: Config, split: Split, images: ImageSet, run_dir: Path) -> None:
    """Write best.yaml: a configuration and the images on which it was chosen."""
    seen = sorted(images.names[index] for index in (*split.train, *split.validation))
    best = override(config, {"data.chosen_on": seen})
    write_atomic(run_dir / run_directory.BEST, to_yaml(best))


def place_ended(study: optuna.Study, place: Place) -> list[Training]:
    """Make the trainings of the trials that have ended."""
    return [
        training
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and "settings" in trial.user_attrs
        for training in place(trial.number, trial.user_attrs["settings"])
    ]


def write_run(trainings: Sequence[Training], images: ImageSet, run_dir: Path) -> None:
    """Gather what the trials left, and write tables and figures."""
    gather_epochs(run_dir, trainings)
    gather_images(run_dir, trainings)
    write_tables_and_figures(run_dir, images)


def report_end(study: optuna.Study, refits: Refits, run_dir: Path) -> int:
    """Say which configuration won and which trainings failed."""
    failures = {
        f"trial {trial.number}": trial.user_attrs.get("reason")
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    }
    for training in refits.place():
        outcome = read_outcome(training.folder)
        if outcome.failed:
            failures[training.name] = outcome.reason
    for name, reason in failures.items():
        logger.error("%s failed: %s", name, reason)
    best, winner = best_trial(study), refits.winner()
    if best is not None:
        logger.info(
            "best in the search: trial %d, %.4f, %s", best.number, best.values[0], best.params
        )
    if winner is not None:
        logger.info("winner after refits: %s", winner.name)
    if (run_dir / run_directory.BEST).exists():
        logger.info("its configuration: %s", run_dir / run_directory.BEST)
    return SOME_FAILED if failures else DONE
