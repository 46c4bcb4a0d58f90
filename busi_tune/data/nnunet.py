"""Images and folds as nnU-Net v2 wants them, so that it can be compared on the same folds.

The format is that of nnU-Net's documentation (dataset_format.md, manual_data_splits.md). nnU-Net
knows two parts: its `train` is here our training and validation part, its `val` our test fold. It
tests the weights of the last epoch, so nothing is chosen on `val` but by its option --val_best.
"""

import csv
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from busi_tune import run_directory
from busi_tune.data.busi import Sample, find_samples, quote
from busi_tune.data.cache import hash_samples, join_hashes
from busi_tune.data.parallel import map_threads
from busi_tune.data.pixels import read_image, read_mask
from busi_tune.data.splits import read_split_key, split_key
from busi_tune.run_directory import write_atomic, write_json

Folds = list[dict[str, list[str]]]


def name_cases(names: Collection[str]) -> dict[str, str]:
    """Give each image a name of letters, digits and underscores; `benign (1)` is `benign_1`.

    The same images get the same names, which differ also where a file system ignores case.
    """
    cases: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names):
        base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "case"
        case, number = base, 1
        while case.lower() in taken:
            number += 1
            case = f"{base}_{number}"
        taken.add(case.lower())
        cases[name] = case
    return cases


def read_repeat(path: Path, repeat: int) -> tuple[str, Folds]:
    """Read the folds of one repeat from a manifest of splits.

    Returns:
        The hash of the data, and of each fold the image names by part.

    Raises:
        ValueError: the file is no manifest of folds, or has no such repeat.
    """
    try:
        manifest: Any = json.loads(path.read_text())
        splits = {
            str(key): {part: [str(name) for name in names] for part, names in split.items()}
            for key, split in manifest["splits"].items()
        }
        data_hash = str(manifest["data_hash"])
        numbers = [read_split_key(key) for key in splits]
        repeats = {number for number, _ in numbers}
        folds = [
            splits[split_key(repeat, fold)]
            for fold in range(sum(number == repeat for number, _ in numbers))
        ]
        if any(set(fold) != {"train", "validation", "test"} for fold in folds):
            raise ValueError("a fold must have the parts train, validation and test")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be the {run_directory.SPLITS} of a cross-validation: "
            f"{type(error).__name__} {error}"
        ) from error
    if not folds:
        raise ValueError(
            f"--repeat must be one of {path}'s, {', '.join(map(str, sorted(repeats)))}, "
            f"not {repeat}"
        )
    return data_hash, folds


def write_nnunet(
    root: Path, out: Path, splits: Path, *, repeat: int = 0, dataset_id: int = 501, name: str
) -> Path:
    """Write a folder of images and its dataset for nnU-Net, whole or not at all.

    Args:
        root: the folder of the images.
        out: nnU-Net's nnUNet_raw, made where it is not there.
        splits: splits.json of a cross-validation of these images.
        repeat: whose folds; splits_final.json holds those of one.
        dataset_id, name: of the dataset's folder `Dataset<id>_<name>`.

    Returns:
        The dataset's folder.

    Raises:
        ValueError: the folds are of other images, the name or number cannot be used or is taken.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not 1 <= dataset_id <= 999:
        raise ValueError(
            "a dataset has a number from 1 to 999 and a name of letters, digits, - and _, got "
            f"{dataset_id} and {name}"
        )
    dataset = out / f"Dataset{dataset_id:03d}_{name}"
    taken = sorted(out.glob(f"Dataset{dataset_id:03d}_*"))
    if taken:
        raise ValueError(
            f"{taken[0]} exists already, and a number names one dataset: choose another OUT or "
            "--dataset_id"
        )
    data_hash, folds = read_repeat(splits, repeat)
    samples = _find_used(root, {n for fold in folds for part in fold.values() for n in part})
    if join_hashes(hash_samples(samples).values()) != data_hash:
        raise ValueError(
            f"{splits} was made for other data: images, masks or classes of {root} have changed; "
            "make the folds again or restore the data"
        )
    cases = name_cases([sample.name for sample in samples])
    run_directory.create(dataset, lambda folder: _fill(folder, samples, cases, folds, name))
    return dataset


def _find_used(root: Path, names: Collection[str]) -> list[Sample]:
    samples = [sample for sample in find_samples(root) if sample.name in names]
    missing = sorted(set(names) - {sample.name for sample in samples})
    if missing:
        raise ValueError(
            f"{root} lacks {len(missing)} images that the folds name: {quote(missing)}; give the "
            "folder of the run"
        )
    return samples


def _fill(
    folder: Path, samples: Sequence[Sample], cases: Mapping[str, str], folds: Folds, name: str
) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()

    def write(sample: Sample) -> None:
        case = cases[sample.name]
        image, mask = read_image(sample.image_path), read_mask(sample.mask_paths)
        Image.fromarray(image).save(folder / "imagesTr" / f"{case}_0000.png")
        Image.fromarray(mask.astype("uint8")).save(folder / "labelsTr" / f"{case}.png")

    for _ in map_threads(write, samples):
        pass
    write_json(folder / "dataset.json", {
        "name": name,
        "channel_names": {"0": "ultrasound"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(samples),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    })  # fmt: skip
    write_json(folder / "splits_final.json", [
        {"train": sorted(cases[image] for image in (*fold["train"], *fold["validation"])),
         "val": sorted(cases[image] for image in fold["test"])}
        for fold in folds
    ])  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("case", "image"), *((case, image) for image, case in cases.items())])
    write_atomic(folder / "names.csv", text.getvalue())
