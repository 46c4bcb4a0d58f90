import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from busi_tune.config import DataConfig
from busi_tune.data.__main__ import main
from busi_tune.data.audit import read_folds
from busi_tune.data.cache import load_images
from busi_tune.data.nnunet import name_cases
from busi_tune.data.splits import make_folds, save_splits
from tests.data.conftest import write_sample

LABELS = ["benign", "normal"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five images a class; one has a second lesion, one is in colour."""
    for label in LABELS:
        for number in range(5):
            write_sample(tmp_path / "set" / label, f"{label} ({number})", lesion=label != "normal")
    second = np.zeros((24, 32), dtype=bool)
    second[0:2, 0:3] = True
    Image.fromarray(second).save(tmp_path / "set" / "benign" / "benign (1)_mask_1.png")
    colour = np.zeros((24, 32, 3), dtype=np.uint8)
    colour[..., 1] = 200
    Image.fromarray(colour).save(tmp_path / "set" / "benign" / "benign (2).png")
    return tmp_path / "set"


@pytest.fixture
def splits(root: Path, tmp_path: Path) -> Path:
    images = load_images(DataConfig(root=str(root), image_size=16, groups="none", classes=LABELS))
    folds = {
        f"repeat-{repeat}/fold-{fold}": split
        for repeat in range(2)
        for fold, split in enumerate(make_folds(images.labels, images.groups, 2, seed=repeat))
    }
    save_splits(tmp_path / "splits.json", folds, images)
    return tmp_path / "splits.json"


def export(root: Path, out: Path, splits: Path, *more: str) -> int:
    return main(["nnunet", str(root), str(out), "--splits", str(splits), *more])


def test_the_dataset_is_as_nnunet_documents_it(root: Path, splits: Path, tmp_path: Path) -> None:
    assert export(root, tmp_path / "raw", splits) == 0
    dataset = tmp_path / "raw" / "Dataset501_BUSI"
    with (dataset / "names.csv").open() as file:
        cases = {row["image"]: row["case"] for row in csv.DictReader(file)}
    assert cases["benign (1)"] == "benign_1"
    assert {p.name for p in (dataset / "imagesTr").iterdir()} == {
        f"{case}_0000.png" for case in cases.values()
    }
    assert {p.name for p in (dataset / "labelsTr").iterdir()} == {
        f"{case}.png" for case in cases.values()
    }
    content = json.loads((dataset / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "lesion": 1}
    assert (content["numTraining"], content["file_ending"]) == (10, ".png")
    for path in dataset.glob("*Tr/*.png"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (32, 24))


def test_labels_are_the_united_masks_and_images_are_grey(
    root: Path, splits: Path, tmp_path: Path
) -> None:
    assert export(root, tmp_path / "raw", splits) == 0
    dataset = tmp_path / "raw" / "Dataset501_BUSI"
    label = np.asarray(Image.open(dataset / "labelsTr" / "benign_1.png"))
    expected = np.zeros((24, 32), dtype=np.uint8)
    expected[8:16, 8:20], expected[0:2, 0:3] = 1, 1
    np.testing.assert_array_equal(label, expected)
    assert not np.asarray(Image.open(dataset / "labelsTr" / "normal_1.png")).any()
    assert set(np.unique(np.asarray(Image.open(dataset / "imagesTr" / "benign_2_0000.png")))) == {
        117  # 0.587 * 200, Pillow's weight of green
    }


@pytest.mark.parametrize("repeat", [0, 1])
def test_nnunet_trains_on_all_but_the_test_fold(
    root: Path, splits: Path, tmp_path: Path, repeat: int
) -> None:
    assert export(root, tmp_path / "raw", splits, "--repeat", str(repeat)) == 0
    ours = json.loads(splits.read_text())["splits"]
    names = {name for part in ours["repeat-0/fold-0"].values() for name in part}
    path = tmp_path / "raw" / "Dataset501_BUSI" / "splits_final.json"
    theirs = json.loads(path.read_text())
    cases = name_cases(names)
    for fold, parts in enumerate(theirs):
        own = ours[f"repeat-{repeat}/fold-{fold}"]
        assert set(parts["val"]) == {cases[name] for name in own["test"]}
        assert set(parts["train"]) == {cases[n] for n in (*own["train"], *own["validation"])}
    assert len(theirs) == 2
    read = read_folds(path, names)
    assert [set(parts.test) for parts in read.values()] == [
        set(ours[f"repeat-{repeat}/fold-{fold}"]["test"]) for fold in (0, 1)
    ]


def test_cases_differ_where_their_images_do() -> None:
    cases = name_cases(["a (1)", "a_1", "A 1", "()", "plain", "é"])
    assert cases["plain"] == "plain"
    assert len({case.lower() for case in cases.values()}) == 6
    assert all(case.isascii() and case.replace("_", "").isalnum() for case in cases.values())
    assert name_cases(reversed(list(cases))) == cases  # type: ignore[arg-type]


def test_what_is_there_is_left_alone(
    root: Path, splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(root, tmp_path / "raw", splits) == 0
    assert export(root, tmp_path / "raw", splits, "--name", "Other") == 2
    assert "exists already" in capsys.readouterr().err
    assert export(root, tmp_path / "raw", splits, "--dataset_id", "502") == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--repeat", "2"], "must be one of"),
        (["--dataset_id", "0"], "number from 1 to 999"),
        (["--name", "my data"], "got 501 and my data"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(
    root: Path,
    splits: Path,
    tmp_path: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export(root, tmp_path / "raw", splits, *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_folds_of_other_data_are_refused(
    root: Path, splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content: Any = [{"train": [], "val": []}]
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert export(root, tmp_path / "raw", tmp_path / "other.json") == 2
    assert "must be the splits.json of a cross-validation" in capsys.readouterr().err
    write_sample(root / "normal", "normal (1)", lesion=True)
    assert export(root, tmp_path / "raw", splits) == 2
    assert "was made for other data" in capsys.readouterr().err
    (root / "normal" / "normal (1).png").unlink()
    assert export(root, tmp_path / "raw", splits) == 2
    assert "lacks 1 images that the folds name: normal (1)" in capsys.readouterr().err
