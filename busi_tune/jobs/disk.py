"""The disk that a run takes: forecast before it starts, and freed of the trials that have lost."""

import logging
from collections.abc import Sequence
from pathlib import Path

import optuna

from busi_tune.command_line import Options
from busi_tune.config import Config
from busi_tune.jobs.common import trainings_folder
from busi_tune.jobs.dry_run import count_slots, find_free, format_bytes
from busi_tune.jobs.forecast import Part, disk_bytes
from busi_tune.remote.run import StoredRun
from busi_tune.search_dimension import read_dimension
from busi_tune.settings import override
from busi_tune.study.objectives import leading_trials
from busi_tune.training.disk import CheckpointBytes, checkpoint_bytes, remove_checkpoints

logger = logging.getLogger(__name__)

_WIDTH = "model.base_width"


def check_disk(parts: Sequence[Part], options: Options) -> None:
    """Say what the checkpoints of a new run will take, and refuse one for which there is no room.

    Counted are as many trainings at a time as this machine alone has room for; a cluster may run
    more. Predictions, rows, tables, figures and the study come on top. A resumed run has some of
    its checkpoints already and is not checked.

    Args:
        parts: the trainings of the whole run.
        options: the run's.

    Raises:
        ValueError: less is free than the forecast.
    """
    if options.resume:
        return
    config = options.config
    at_a_time = max(1, count_slots(config)[0])
    needed = sum(
        disk_bytes(part, [_checkpoints_of(each, part) for each in part.models.values()], at_a_time)
        for part in parts
    )
    there, free = find_free(trainings_folder(config, options.run_dir))
    forecast = (
        f"about {format_bytes(needed)} of checkpoints alone, with {at_a_time} trainings at a time, "
        "as on this machine"
    )
    if needed > free:
        raise ValueError(
            f"{forecast}, need more than the {format_bytes(free)} that are free in {there}: make "
            "space there, name a larger disk by --storage, or let fewer run at a time by "
            "--resources.max_concurrent"
        )
    logger.info("disk: %s; %s free in %s", forecast, format_bytes(free), there)


def _checkpoints_of(config: Config, part: Part) -> CheckpointBytes:
    """Forecast the checkpoints of a configuration or, if a trial drew it, of the widest such."""
    from busi_tune.models import model_size

    if part.num_trials and _WIDTH in config.search.space:
        width = read_dimension(_WIDTH, config.search.space[_WIDTH])
        config = override(config, {_WIDTH: width.highest})
    return checkpoint_bytes(*model_size(config.model), config)


def remove_lost_checkpoints(
    study: optuna.Study,
    config: Config,
    run_dir: Path,
    settled: set[str],
    storage: StoredRun | None = None,
) -> None:
    """Remove the checkpoints of trials that have ended, but for the leaders'.

    Args:
        study: the study.
        config: the search's configuration; as many leaders keep theirs as are trained again.
        run_dir: the run's directory.
        settled: keys of trainings that are not to be looked at; those removed are added.
        storage: the run's place in a storage, where they are removed as well.
    """
    trials = study.get_trials(deepcopy=False)
    leading = {trial.number for trial in leading_trials(study, max(1, config.search.refit))}
    kept: set[str] = set()
    lost: set[str] = set()
    for trial in trials:
        # Two trials with the same settings share a folder.
        keys = kept if trial.number in leading or not trial.state.is_finished() else lost
        keys.update(trial.user_attrs.get("keys", ()))
    folder = trainings_folder(config, run_dir)
    for key in lost - kept - settled:
        remove_checkpoints(folder / key)
        if storage is not None:
            storage.training(folder / key).drop_checkpoints()
    settled |= lost - kept
