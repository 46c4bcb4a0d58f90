"""The models of several runs side by side: a run directory that is made of theirs.

Every page and figure that needs no images reads it as any other run's.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from busi_tune import run_directory
from busi_tune.data.store import replacing
from busi_tune.kfold_models import MODEL_SECTIONS, NESTED, search_settings
from busi_tune.results.protocol import find_differences, find_other_libraries, read_protocol
from busi_tune.results.read import KfoldRun, read_run
from busi_tune.run_directory import locked, read_json, write_atomic, write_json
from busi_tune.settings import flatten, override, to_yaml

logger = logging.getLogger(__name__)

_TABLES = (
    run_directory.FOLDS,
    run_directory.EPOCHS,
    run_directory.IMAGES,
    run_directory.THRESHOLDS,
    run_directory.LOGITS,
)


def compare_runs(run_dirs: Sequence[Path]) -> Path:
    """Put the rows of several runs into a folder of comparisons/ below the first.

    Args:
        run_dirs: the first run and those to set beside it.

    Returns:
        The comparison's folder; that of the same runs from before is replaced.

    Raises:
        ValueError: a folder is no cross-validation or training, one is named twice, or protocols
            differ; every difference is named, and nothing is written.
    """
    folders = [folder.resolve() for folder in run_dirs]
    twice = [str(folder) for folder, number in Counter(folders).items() if number > 1]
    if twice:
        raise ValueError(f"--compare needs other runs than {run_dirs[0]}, {twice[0]} comes twice")
    runs = [_read(folder) for folder in folders]
    protocols = [read_protocol(run) for run in runs]
    _refuse_differences(run_dirs, protocols)
    target = folders[0] / run_directory.COMPARISONS / _name_comparison(folders[1:])
    with locked(target.parent), replacing(target) as folder:
        _fill(folder, runs, name_models(runs), protocols[0])
    return target


def _name_comparison(others: Sequence[Path]) -> str:
    """Join the names of the runs; a hash tells apart what is equal in its first 60 characters."""
    paths = "\n".join(map(str, others))
    joined = "+".join(other.name for other in others)
    return f"{joined[:60]}-{hashlib.sha256(paths.encode()).hexdigest()[:8]}"


def _read(folder: Path) -> KfoldRun:
    run = read_run(folder)
    if not isinstance(run, KfoldRun) or not run.models:
        raise ValueError(
            f"{folder} must be a cross-validation or training with a finished model, it is "
            f"{'one without' if isinstance(run, KfoldRun) else 'a search'}"
        )
    return run


def _refuse_differences(run_dirs: Sequence[Path], protocols: Sequence[Mapping[str, Any]]) -> None:
    lines = []
    for folder, protocol in zip(run_dirs[1:], protocols[1:], strict=True):
        if found := find_differences(protocols[0], protocol):
            lines += [f"  {run_dirs[0]} -> {folder}", *(f"    {line}" for line in found)]
        if libraries := find_other_libraries(protocols[0], protocol):
            logger.warning("%s was scored with other versions: %s", folder, "; ".join(libraries))
    if lines:
        listed = "\n".join(lines)
        raise ValueError(
            "runs stand side by side only where the same images are tested by trainings on the "
            f"same others and are scored alike; the protocols differ:\n{listed}"
        )


def name_models(runs: Sequence[KfoldRun]) -> list[dict[str, str]]:
    """Name the models of all runs apart: where a name is there twice, the run's is added.

    Returns:
        For each run the new name of each of its models.
    """
    number = Counter(model for run in runs for model in run.models)
    same = Counter(run.folder.name for run in runs)
    taken = {model for model, times in number.items() if times == 1}
    names: list[dict[str, str]] = []
    for position, run in enumerate(runs):
        label = run.folder.name + (f"-{position}" if same[run.folder.name] > 1 else "")
        own = {}
        for model in run.models:
            name = model
            if number[model] > 1:
                name = f"{model}-{label}"
                while name in taken:
                    name += "+"
                taken.add(name)
            own[model] = name
        names.append(own)
    return names


def _fill(
    folder: Path,
    runs: Sequence[KfoldRun],
    names: Sequence[Mapping[str, str]],
    protocol: Mapping[str, Any],
) -> None:
    first = runs[0].folder
    (folder / run_directory.SPLITS).write_bytes((first / run_directory.SPLITS).read_bytes())
    write_json(folder / run_directory.PROTOCOL, protocol)
    if (first / run_directory.ENVIRONMENT).exists():
        compared = {"job": run_directory.COMPARISON, "compared": [str(run.folder) for run in runs]}
        environment = read_json(first / run_directory.ENVIRONMENT)
        write_json(folder / run_directory.ENVIRONMENT, environment | compared)
    _write_config(folder, runs, names)
    _write_tables(folder, runs, names)


def _write_config(
    folder: Path, runs: Sequence[KfoldRun], names: Sequence[Mapping[str, str]]
) -> None:
    """Write every model's settings in full: what they leave to their run differs between runs."""
    models: dict[str, Any] = {}
    search: Any = {}
    for run, own in zip(runs, names, strict=True):
        if own.get(NESTED) == NESTED:
            search = _settings(run, (*MODEL_SECTIONS, "search")) | search_settings(run.config)
            trials = (run.folder / run_directory.NESTED_TRIALS).read_bytes()
            write_atomic(folder / run_directory.NESTED_TRIALS, trials)
        models |= {
            own[model]: {name: run.setting(model, name) for name in _settings(run, MODEL_SECTIONS)}
            for model in run.trained
            if own[model] != NESTED
        }
    config = override(runs[0].config, {"kfold.models": models, "kfold.search": search})
    write_atomic(folder / run_directory.CONFIG, to_yaml(config))


def _write_tables(
    folder: Path, runs: Sequence[KfoldRun], names: Sequence[Mapping[str, str]]
) -> None:
    groups = dict(zip(runs[0].images["image"], runs[0].images["group"], strict=True))
    for table in _TABLES:
        frames = [
            _rename(run.folder / table, own, groups)
            for run, own in zip(runs, names, strict=True)
            if (run.folder / table).exists()
        ]
        if frames:
            write_atomic(folder / table, pd.concat(frames).to_csv(index=False))
    for run, own in zip(runs, names, strict=True):
        for path in sorted((run.folder / run_directory.EXTERNAL).glob("*.csv")):
            table = _rename(path, own, groups).to_csv(index=False)
            write_atomic(folder / run_directory.EXTERNAL / f"{own[path.stem]}.csv", table)


def _settings(run: KfoldRun, sections: Sequence[str]) -> dict[str, Any]:
    """The run's settings of some sections."""
    own = flatten(run.config)
    return {name: value for name, value in own.items() if name.split(".")[0] in sections}


def _rename(path: Path, names: Mapping[str, str], groups: Mapping[str, str]) -> pd.DataFrame:
    """Read a table as text, so that no figure changes, with the names of this comparison.

    Epochs of models that no fold has finished yet are left out.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["model"] = table["model"].map(dict(names))
    table = table.dropna(subset="model")
    if "group" in table:
        # The protocols agree on which images belong together, not on what a group is called.
        table["group"] = table["image"].map(dict(groups)).fillna(table["group"])
    return table
