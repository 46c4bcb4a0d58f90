"""The search: trials over one development part, and the best of them."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from busi_tune import run_directory
from busi_tune.command_line import DONE, SOME_FAILED, Options
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split, make_holdout
from busi_tune.jobs.common import (
    load_run_images,
    open_run,
    place_training,
    run_on_cluster,
    write_tables_and_figures,
)
from busi_tune.jobs.dry_run import Part, show_plan
from busi_tune.plan import Training
from busi_tune.results.gather import gather_epochs, gather_images
from busi_tune.run_directory import write_atomic
from busi_tune.search_space import Dimension, compile_space, sample
from busi_tune.settings import check_config, override, to_yaml
from busi_tune.study.objectives import best_trial
from busi_tune.study.storage import open_study
from busi_tune.study.tables import export_trials
from busi_tune.study.trials import StudyPlan

logger = logging.getLogger(__name__)

SPLIT = "search"


def run_search(options: Options) -> int:
    """Try configurations until all trials are done and write the best."""
    config, run_dir = options.config, options.run_dir
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = compile_space(config.search.space)
    samples = check_space(space, config)
    images = load_run_images(options, "search")

    def make_splits() -> dict[str, Split]:
        return {SPLIT: make_holdout(images.labels, images.groups, config.seed)}

    if options.dry_run:
        trials = Part(samples, config.search.num_trials)
        show_plan([trials], images, make_splits()[SPLIT])
        return DONE
    with (
        open_run("search", options, images, make_splits) as splits,
        open_study(run_dir / run_directory.STUDY, config) as study,
    ):
        # The test part stays closed: no trial is given it.
        development = {SPLIT: replace(splits[SPLIT], test=splits[SPLIT].test[:0])}

        def place(number: int, settings: Mapping[str, Any]) -> list[Training]:
            training = place_training(
                f"trial {number}",
                {"trial": number},
                override(config, settings),
                SPLIT,
                development[SPLIT],
                images,
                run_dir,
            )
            return [training]

        plan = StudyPlan(study, config, space, place, lambda: export_trials(study, space, run_dir))
        run_on_cluster(plan, config.search.num_trials, images, development, config)
        export_trials(study, space, run_dir)
        write_best(study, config, development[SPLIT], images, run_dir)
        write_run(study, place, images, run_dir)
        return report_end(study, run_dir)


def check_space(
    space: list[Dimension], config: Config, num_samples: int = 200
) -> dict[str, Config]:
    """Refuse a space whose samples no training could run with, by drawing some.

    Returns:
        An example of each architecture and encoder that was drawn.

    Raises:
        ValueError: a rule that a sample breaks, or a network that cannot be built.
    """
    from busi_tune.models import check_model

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    checked: set[str] = set()
    examples: dict[str, Config] = {}
    for _ in range(num_samples):
        settings = sample(space, study.ask())
        resolved = override(config, settings)
        try:
            check_config(resolved)
            if repr(resolved.model) not in checked:
                checked.add(repr(resolved.model))
                check_model(resolved.model, resolved.data.image_size)
        except ValueError as error:
            raise ValueError(f"search.space allows {settings}, but: {error}") from error
        model = resolved.model
        encoder = "" if model.architecture in ("unet", "report_cnn") else f" {model.encoder}"
        examples.setdefault(f"{model.architecture}{encoder}", resolved)
    return examples


def write_best(
    study: optuna.Study, config: Config, split: Split, images: ImageSet, run_dir: Path
) -> None:
    """Write best.yaml: the best trial's configuration and the images on which it was chosen."""
    winner = best_trial(study)
    if winner is None:
        return
    settings = winner.user_attrs["settings"]
    seen = sorted(images.names[index] for index in (*split.train, *split.validation))
    best = override(config, {**settings, "data.chosen_on": seen})
    write_atomic(run_dir / run_directory.BEST, to_yaml(best))


def write_run(study: optuna.Study, place: Any, images: ImageSet, run_dir: Path) -> None:
    """Gather what the trials left, and write tables and figures."""
    trainings = [
        training
        for trial in study.get_trials(deepcopy=False)
        if "settings" in trial.user_attrs
        for training in place(trial.number, trial.user_attrs["settings"])
    ]
    gather_epochs(run_dir, trainings)
    gather_images(run_dir, trainings)
    write_tables_and_figures(run_dir, images)


def report_end(study: optuna.Study, run_dir: Path) -> int:
    """Say which trial won and how many failed."""
    trials = study.get_trials(deepcopy=False)
    failed = [trial for trial in trials if trial.state == optuna.trial.TrialState.FAIL]
    for trial in failed:
        logger.error("trial %d failed: %s", trial.number, trial.user_attrs.get("reason"))
    best = best_trial(study)
    if best is not None:
        logger.info("best: trial %d, %.4f, %s", best.number, best.value, best.params)
        logger.info("its configuration: %s", run_dir / run_directory.BEST)
    return SOME_FAILED if failed else DONE
