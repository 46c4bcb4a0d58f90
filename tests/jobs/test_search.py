"""A search that is taken up, from its study and its trainings' folders."""

from pathlib import Path

import pytest

from busi_tune import run_directory
from busi_tune.jobs.search import Search, make_splits
from busi_tune.run_directory import hash_code, write_json
from busi_tune.search_space import compile_space
from busi_tune.study.starts import Known
from tests.faults.runs import content
from tests.jobs.test_refit import VALUES, make_config, make_study
from tests.training.small_training import make_images


def make_search(folder: Path) -> Search:
    """All trials have ended, no refit has."""
    config, images = make_config({"search.num_trials": len(VALUES)}), make_images()
    space = compile_space({"optimizer.lr": {"low": 1e-4, "high": 1e-1}})
    study, splits = make_study(), make_splits(images, config)
    return Search(study, config, space, Known([], {}), splits, images, folder)


def begin_with(folder: Path, code: str) -> None:
    record = {"code": code, "packages": {"busi_tune": "0"}, "commit": "an earlier one"}
    write_json(folder / run_directory.ENVIRONMENT, record)


def test_other_code_is_refused_before_a_refit_that_failed_is_taken_up(tmp_path: Path) -> None:
    search = make_search(tmp_path)
    first, *others = search.refits.place()
    write_json(first.folder / run_directory.FAILURE, {"reason": "out of memory", "retry": False})
    for training in others:
        write_json(training.folder / run_directory.RESULT, {"status": "finished"})
    begin_with(tmp_path, "a hash of other sources")
    before = content(tmp_path)
    with pytest.raises(ValueError, match="its sources differ"):
        search.plan()
    assert content(tmp_path) == before, "a refused run was changed"
    begin_with(tmp_path, hash_code())
    plan, _ = search.plan()
    assert plan.num_open() == 1
    assert not (first.folder / run_directory.FAILURE).exists()
    assert (tmp_path / run_directory.TRIALS).exists()
