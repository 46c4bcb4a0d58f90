"""The cross-validation: models x repeats x folds as one list of trainings, and nested searches."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from busi_tune.command_line import DONE, SOME_FAILED, Options
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split, make_folds, split_key
from busi_tune.jobs.audit import audit_folds
from busi_tune.jobs.common import (
    check_models,
    finish_run,
    load_run_images,
    open_run,
    open_storage,
    refuse_other_code,
    run_on_cluster,
    take_up,
)
from busi_tune.jobs.disk import check_disk
from busi_tune.jobs.dry_run import show_plan
from busi_tune.jobs.folds import place_fold, seed_repeat
from busi_tune.jobs.forecast import Part
from busi_tune.jobs.nested import (
    NestedSearch,
    check_search,
    export_nested_trials,
    open_searches,
    report_failures,
)
from busi_tune.jobs.search import load_forms, place_ended
from busi_tune.kfold_models import resolve_models
from busi_tune.plan import JoinedPlan, ListPlan, Training
from busi_tune.results.gather import Reader, gather_run, warn_of_older


def run_kfold(options: Options) -> int:
    """Train every model on every fold, search inside each if asked to, and write the results."""
    config, run_dir = options.config, options.run_dir
    models, search = resolve_models(config), check_search(config)
    check_models(models)
    parts = plan_parts(models, search, config.kfold.num_folds * config.kfold.num_repeats)
    storage = open_storage(options)
    images = load_run_images(options, "kfold")
    draw_folds = partial(make_all_folds, images, config)
    if options.dry_run:
        folds = draw_folds()
        show_plan(parts, images, next(iter(folds.values())), config, run_dir)
        return DONE
    check_disk(parts, options)
    sets = load_forms(search.config, images) if search else images
    with (
        open_run("kfold", options, images, draw_folds, storage) as splits,
        open_searches(search, splits, images, run_dir) as searches,
    ):
        audit_folds(splits, lambda: make_naive_folds(images, config), images, config, run_dir)
        trainings = place_folds(models, splits, images, run_dir)
        warn_of_older(trainings)
        reader = Reader()

        def placed() -> list[Training]:
            return trainings + [won for each in searches if (won := each.place_winner())]

        def gather() -> None:
            gather_run(run_dir, placed(), reader)

        refuse_other_code(run_dir, placed())
        export = partial(export_nested_trials, searches, run_dir)
        nested = [each.plan(export, gather) for each in searches]
        plan = JoinedPlan([*nested, ListPlan(trainings, gather)])
        earlier = [t for s in searches for t in place_ended(s.study, s.place_trial)] + placed()
        splits |= {each.inner_name: each.inner_split for each in searches}
        take_up(run_dir, plan, config)
        run_on_cluster(plan, sets, splits, config, run_dir.name, earlier, storage=storage)
        export()
        code = finish_run(placed(), images, run_dir)
        return SOME_FAILED if report_failures(searches) else code


def plan_parts(
    models: Mapping[str, Config], search: NestedSearch | None, num_folds: int
) -> list[Part]:
    """Return what is to be trained: every model once per fold, a search's trials and its winner."""
    parts = [Part(models, len(models) * num_folds)] if models else []
    if search:
        examples = {f"searched {name}": config for name, config in search.examples.items()}
        trials = search.config.search.num_trials * num_folds
        parts.append(Part(examples, num_folds, trials, trials))
    return parts


def make_all_folds(images: ImageSet, config: Config) -> dict[str, Split]:
    """Draw the folds of every repeat, each from its own seed."""
    return {
        split_key(repeat, fold): split
        for repeat in range(config.kfold.num_repeats)
        for fold, split in enumerate(
            make_folds(images.labels, images.groups, config.kfold.num_folds, config.seed + repeat)
        )
    }


def make_naive_folds(images: ImageSet, config: Config) -> dict[str, Split]:
    """Draw the folds of every repeat over single images, near-duplicates or not."""
    return make_all_folds(replace(images, groups=images.names), config)


def place_folds(
    models: Mapping[str, Config], splits: Mapping[str, Split], images: ImageSet, run_dir: Path
) -> list[Training]:
    """Make the grid repeats x folds x models: fold by fold, so that models compare early."""
    return [
        place_fold(model, seed_repeat(config, name), name, split, images, run_dir)
        for name, split in splits.items()
        for model, config in models.items()
    ]
