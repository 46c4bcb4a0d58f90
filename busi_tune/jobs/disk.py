"""The disk that a search takes: checkpoints of lost trials go as soon as they have lost."""

from pathlib import Path

import optuna

from busi_tune.config import Config
from busi_tune.jobs.common import trainings_folder
from busi_tune.study.objectives import leading_trials
from busi_tune.training.disk import remove_checkpoints


def remove_lost_checkpoints(
    study: optuna.Study, config: Config, run_dir: Path, settled: set[str]
) -> None:
    """Remove the checkpoints of trials that have ended, but for the leaders'.

    Args:
        study: the study.
        config: the search's configuration; as many leaders keep theirs as are trained again.
        run_dir: the run's directory.
        settled: keys of trainings that are not to be looked at; those removed are added.
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
    settled |= lost - kept
