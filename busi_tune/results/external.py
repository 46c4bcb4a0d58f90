"""Models that were trained elsewhere on the folds of a run: nnU-Net's own results as rows of it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.data.busi import quote
from busi_tune.data.nnunet import name_cases
from busi_tune.data.splits import read_split_key
from busi_tune.evaluation.counts import COUNTS, compute_metrics
from busi_tune.kfold_models import NESTED, is_model_name
from busi_tune.results.read import KfoldRun, read_run
from busi_tune.run_directory import read_json, write_atomic

SUMMARY = "validation/summary.json"
OF_IMAGE = ("label", "group", "height", "width", "irregularity")
"""Columns of images.csv that do not depend on a model."""

Case = tuple[str, tuple[int, ...]]
"""An image and its counts, in the order of `COUNTS`."""


@dataclass(frozen=True)
class Repeat:
    """A repeat of the run, and what of nnU-Net's folds does not fit it."""

    number: int
    tests: Mapping[int, frozenset[str]]
    faults: list[str]


def import_nnunet(run_dir: Path, name: str, folder: Path) -> Path:
    """Keep nnU-Net's counts of the test images as external/NAME.csv, a further model of a run.

    Its ratios are computed from its counts by the run's own rule for empty masks.

    Args:
        run_dir: a cross-validation whose folds nnU-Net was trained on, as written by
            `python -m busi_tune.data nnunet`.
        name: of the model in tables; one imported under this name before is replaced.
        folder: of nnU-Net's trainer, with fold_0/validation/summary.json and so on.

    Raises:
        ValueError: the name is taken, a file is damaged, an image is not tested exactly once in
            its fold, or was scored against another mask.
    """
    run = read_run(run_dir)
    splits = read_json(run_dir / run_directory.SPLITS)["splits"]
    if not isinstance(run, KfoldRun) or not all("/" in key for key in splits):
        raise ValueError(f"{run_dir} must be a cross-validation: nnU-Net is added fold by fold")
    _check_name(run, name)
    known = {image for parts in splits.values() for names in parts.values() for image in names}
    found = read_summaries(folder, known)
    repeat = min(_match_repeats(splits, found), key=lambda repeat: len(repeat.faults))
    if repeat.faults:
        raise ValueError(
            f"{folder} must test every image once, in its fold of {run_dir}: {quote(repeat.faults)}"
        )
    table = _make_rows(run, name, repeat.number, found)
    target = run_dir / run_directory.EXTERNAL / f"{name}.csv"
    write_atomic(target, table.to_csv(index=False))
    return target


def _check_name(run: KfoldRun, name: str) -> None:
    """Refuse a name that cannot be a file's, or that a model has which may only finish later."""
    config = run.config
    own = config.kfold.models or {config.model.architecture: {}}
    taken = list(dict.fromkeys([*run.trained, *own, NESTED]))
    if not is_model_name(name) or name in taken:
        raise ValueError(
            f"--nnunet needs a name of letters, digits, spaces and _ . + - that no model of the "
            f"run has ({', '.join(taken)}), got {name}"
        )


def read_summaries(folder: Path, names: Collection[str]) -> dict[int, list[Case]]:
    """Read the cases of each numbered fold; of others, such as nnU-Net's fold_all, none.

    Args:
        folder: of nnU-Net's trainer.
        names: the images of the run.

    Raises:
        ValueError: there is no numbered fold, or a file is damaged.
    """
    images = {case: image for image, case in name_cases(names).items()}
    folds = {path.parts[-3]: path for path in sorted(folder.glob(f"fold_*/{SUMMARY}"))}
    numbers = {int(f[5:]): path for f, path in folds.items() if re.fullmatch("fold_[0-9]+", f)}
    if not numbers:
        others = f", not {quote(list(folds))} alone" if folds else ""
        raise ValueError(
            f"{folder} must hold fold_0/{SUMMARY} and so on{others}, as nnU-Net v2 writes them: "
            "train its numbered folds and give the trainer's folder, such as "
            "nnUNet_results/Dataset501_BUSI/nnUNetTrainer__nnUNetPlans__2d"
        )
    return {number: read_summary(path, images) for number, path in numbers.items()}


def read_summary(path: Path, images: Mapping[str, str]) -> list[Case]:
    """Read the counts of each case, in the order of `COUNTS`.

    Args:
        path: a summary.json of nnU-Net v2.
        images: names of the images by case; of other cases the name is taken as it is.

    Raises:
        ValueError: the file is damaged, or its labels are not background 0 and lesion 1.
    """
    try:
        rows = []
        for case in read_json(path)["metric_per_case"]:
            stem = Path(str(case["prediction_file"]).replace("\\", "/")).name.split(".png")[0]
            metrics: Any = case["metrics"]["1"]
            counts = tuple(int(metrics[count.upper()]) for count in COUNTS)
            rows.append((images.get(stem, stem), counts))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be nnU-Net v2's summary.json of a label 1: {type(error).__name__} {error}"
        ) from error
    return rows


def _match_repeats(
    splits: Mapping[str, Mapping[str, list[str]]],
    found: Mapping[int, list[Case]],
) -> list[Repeat]:
    """Set nnU-Net's folds against those of each repeat."""
    tests: dict[int, dict[int, frozenset[str]]] = {}
    for key, parts in splits.items():
        repeat, fold = read_split_key(key)
        tests.setdefault(repeat, {})[fold] = frozenset(parts["test"])
    return [Repeat(number, folds, _find_faults(folds, found)) for number, folds in tests.items()]


def _find_faults(
    tests: Mapping[int, frozenset[str]],
    found: Mapping[int, list[Case]],
) -> list[str]:
    """Say of every image what is wrong with where it is tested, and of every fold that lacks."""
    faults = [f"fold {fold} has no summary.json" for fold in sorted(set(tests) - set(found))]
    home = {image: fold for fold, images in tests.items() for image in images}
    seen: set[str] = set()
    for fold, rows in sorted(found.items()):
        for image, _ in rows:
            if image not in home:
                faults.append(f"{image} in fold {fold} is no test image of the run")
            elif home[image] != fold:
                faults.append(f"{image} is tested in fold {fold}, not {home[image]}")
            elif image in seen:
                faults.append(f"{image} is tested twice")
            seen.add(image)
    untested = [n for n, fold in sorted(home.items()) if n not in seen and fold in found]
    return faults + [f"{name} is not tested" for name in untested]


def _make_rows(
    run: KfoldRun,
    name: str,
    repeat: int,
    found: Mapping[int, list[Case]],
) -> pd.DataFrame:
    tested = run.images.drop_duplicates("image").set_index("image")
    of_image = tested.to_dict("index")
    rows: list[dict[str, object]] = []
    for fold, cases in sorted(found.items()):
        for image, counts in cases:
            if image not in of_image:
                raise ValueError(f"{run.folder} has not tested {image} yet: finish it by --resume")
            known = of_image[image]
            _check_mask(image, counts, known)
            rows.append(
                {"image": image, "model": name, "repeat": repeat, "fold": fold}
                | {"chosen_here": False, "key": "", "part": "test"}
                | {column: known[column] for column in OF_IMAGE if column in known}
                | dict(zip(COUNTS, counts, strict=True))
            )
    table = pd.DataFrame(rows)
    return table.assign(**compute_metrics(table[list(COUNTS)].to_numpy(dtype=np.int64)))


def _check_mask(image: str, counts: tuple[int, ...], known: Mapping[Any, Any]) -> None:
    tp, _, fn, _ = counts
    area, lesion = int(known["height"] * known["width"]), int(known["tp"] + known["fn"])
    if (sum(counts), tp + fn) != (area, lesion):
        raise ValueError(
            f"{image} was scored against another mask: {tp + fn} of {sum(counts)} pixels are "
            f"lesion, in the run {lesion} of {area}"
        )
