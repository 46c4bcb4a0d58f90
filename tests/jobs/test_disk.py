from pathlib import Path

import optuna

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.jobs.disk import remove_lost_checkpoints
from busi_tune.settings import override


def add_trial(study: optuna.Study, folder: Path, keys: list[str], value: float | None) -> None:
    trial = study.ask()
    trial.set_user_attr("keys", keys)
    for key in keys:
        path = folder / run_directory.TRAININGS / key / run_directory.BEST_CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if value is not None:
        study.tell(trial, value)


def test_leaders_and_running_trials_keep_their_checkpoints(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    config = override(Config(), {"search.refit": 2})
    settled: set[str] = set()
    values = {"a": 0.3, "b": 0.9, "c": 0.5, "d": None, "e": 0.7}
    for key, value in values.items():
        add_trial(study, tmp_path, [key], value)
        remove_lost_checkpoints(study, config, tmp_path, settled)
    left = sorted(path.parent.name for path in tmp_path.rglob(run_directory.BEST_CHECKPOINT))
    assert left == ["b", "d", "e"]
    assert settled == {"a", "c"}


def test_a_folder_that_a_leader_shares_with_a_lost_trial_stays(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    config = override(Config(), {"search.refit": 1})
    for keys, value in ((["a", "b"], 0.9), (["a"], 0.9), (["c", "b"], 0.1)):
        add_trial(study, tmp_path, keys, value)
    remove_lost_checkpoints(study, config, tmp_path, set())
    left = sorted(path.parent.name for path in tmp_path.rglob(run_directory.BEST_CHECKPOINT))
    assert left == ["a", "b"]


def test_trials_in_another_folder_are_found(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    config = override(Config(), {"storage": str(tmp_path / "shared"), "search.refit": 0})
    for key, value in (("a", 0.1), ("b", 0.2)):
        add_trial(study, tmp_path / "shared", [key], value)
    remove_lost_checkpoints(study, config, tmp_path / "run", set())
    left = sorted(path.parent.name for path in tmp_path.rglob(run_directory.BEST_CHECKPOINT))
    assert left == ["b"]
