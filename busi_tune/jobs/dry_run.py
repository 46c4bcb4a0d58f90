"""The plan of a run, measured on a few training steps; nothing is started or written."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from busi_tune.capacity import workers_on
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.jobs.common import trainings_folder
from busi_tune.jobs.console import open_console, print_lines
from busi_tune.jobs.forecast import Forecast, Part, forecast
from busi_tune.jobs.measure import STEPS, Cost, measure
from busi_tune.search_space import Dimension


def show_space(space: Sequence[Dimension]) -> None:
    """Print what a search tries, a row per setting."""
    table = Table("setting", "range or choices", "only where")
    for dimension in space:
        conditions = [f"{name}: {_join(values)}" for name, values in dimension.when]
        table.add_row(dimension.name, _describe(dimension), "\n".join(conditions))
    open_console().print(table)


def show_plan(
    parts: Sequence[Part], images: ImageSet, split: Split, config: Config, folder: Path
) -> None:
    """Print what each model takes and what to expect of the run: time, memory and disk.

    Args:
        parts: the trainings of the whole run.
        images: the decoded set.
        split: a split as the trainings will have.
        config: of the run.
        folder: where the run would be.
    """
    from busi_tune.orchestration.standings import describe_settings

    table = Table("model", "parameters", "s/epoch", "epochs", "time", "memory")
    at_a_time, resources = count_slots(config)
    forecasts, costs, settings = [], [], []
    for part in parts:
        measured = [measure(each, images, split) for each in part.models.values()]
        for name, cost in zip(part.models, measured, strict=True):
            table.add_row(*_describe_cost(name, cost))
            if part.num_trials:
                settings.append(f"sampled {name}: {describe_settings(cost.config, config)}")
        forecasts.append(forecast(part, measured, max(1, at_a_time)))
        costs += measured
    open_console().print(table)
    print_lines(
        [
            *settings,
            _describe_slots(at_a_time, resources, config, costs),
            *_describe_time(parts, forecasts),
            _describe_disk(forecasts, trainings_folder(config, folder)),
            f"Measured over {STEPS} steps, one model after the other; nothing was started.",
        ]
    )


def count_slots(config: Config) -> tuple[int, dict[str, float]]:
    """Return how many trainings fit on this machine at a time, and its CPUs and GPUs."""
    import torch

    asked = config.resources
    has = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    gpus = asked.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if has["GPU"] or config.training.device == "cuda" else 0.0
    fitting = workers_on(has, asked.cpus_per_worker, gpus) // asked.num_workers
    return min(fitting, asked.max_concurrent or fitting), has


def _describe(dimension: Dimension) -> str:
    if dimension.choices:
        return ("always " if dimension.is_constant else "") + _join(dimension.choices)
    step = f", step {dimension.step:g}" if dimension.step else ""
    log = ", log" if dimension.log else ""
    return f"{dimension.low:g} to {dimension.high:g}{log}{step}"


def _join(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _describe_cost(name: str, cost: Cost) -> list[str]:
    epochs = str(cost.config.training.epochs)
    if cost.seconds < cost.config.training.epochs * cost.epoch_seconds:
        epochs = f"{cost.seconds / cost.epoch_seconds:.0f} in time"
    memory = "not measured" if cost.memory is None else format_bytes(cost.memory)
    seconds = f"{cost.epoch_seconds:.1f}"
    return [name, f"{cost.num_parameters:,}", seconds, epochs, format_time(cost.seconds), memory]


def _describe_slots(
    at_a_time: int, has: dict[str, float], config: Config, costs: Sequence[Cost]
) -> str:
    machine = f"this machine ({has['CPU']:g} CPUs, {has['GPU']:g} GPUs"
    if config.resources.max_concurrent:
        machine += f"; resources.max_concurrent {config.resources.max_concurrent}"
    if not at_a_time:
        return f"a training does not fit on {machine}): times are for one at a time"
    line = f"{at_a_time} at a time on {machine})"
    peaks = [cost.memory for cost in costs]
    known = [peak for peak in peaks if peak is not None]
    if known:
        line += (
            f", together up to {format_bytes(at_a_time * max(known))} of memory beside the images"
        )
    return line


def _describe_time(parts: Sequence[Part], forecasts: Sequence[Forecast]) -> list[str]:
    """Say what is to be trained, and how long each kind takes."""
    of_trials = sum(each.trial_seconds for each in forecasts)
    of_trainings = sum(each.training_seconds for each in forecasts)
    lines = []
    for part, each in zip(parts, forecasts, strict=True):
        if part.num_trials:
            search = next(iter(part.models.values())).search
            folds = f" of {search.inner_folds} inner folds" if search.inner_folds > 1 else ""
            budget = f", budget {search.budget}" if search.budget else ""
            lines.append(
                f"{part.num_trials} trials{folds}: about {format_time(of_trials)}, "
                f"{each.trial_share:.0%} of their full length (pruner {search.pruner}{budget})"
            )
    number = sum(part.num_trainings for part in parts)
    if number:
        what = "trainings after them" if lines else "trainings"
        lines.append(f"{number} {what}, of full length: about {format_time(of_trainings)}")
    return [*lines, f"expected time: about {format_time(of_trials + of_trainings)}"]


def _describe_disk(forecasts: Sequence[Forecast], folder: Path) -> str:
    needed = sum(each.disk_bytes for each in forecasts)
    there, free = find_free(folder)
    line = (
        f"disk: about {format_bytes(needed)} of checkpoints; {format_bytes(free)} free in {there}"
    )
    return line + (": not enough" if needed > free else "")


def find_free(folder: Path) -> tuple[Path, int]:
    """Return the part of a path that exists, and the bytes that are free there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there, shutil.disk_usage(there).free


def format_bytes(number: int) -> str:
    """Format a size as megabytes or gigabytes."""
    return f"{number / 1e6:.0f} MB" if number < 1e9 else f"{number / 1e9:.1f} GB"


def format_time(seconds: float) -> str:
    """Format a time in the unit that is read at a glance."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
