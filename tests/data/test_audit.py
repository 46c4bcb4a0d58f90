import json
from pathlib import Path

import pytest

from busi_tune.data.__main__ import main
from busi_tune.data.audit import Leak, Parts, describe_leaks, find_leaks, read_folds
from busi_tune.data.duplicates import Level, Pair

NAMES = ["benign (1)", "benign (2)", "malignant (1)", "normal (1)"]
STILL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def pair(first: str, second: str, level: Level = "identical") -> Pair:
    return Pair(first, second, level, 1.0, 9, 1.0, STILL)


def test_every_test_image_with_a_twin_in_training_is_named() -> None:
    folds = {"0": Parts(("a", "b", "c"), ("d", "e")), "1": Parts(("d", "e"), ("a", "b", "c"))}
    leaks = find_leaks(folds, [pair("a", "d"), pair("b", "c"), pair("c", "e", "neighbour")])
    assert leaks == [
        Leak("0", "d", "a", "identical"),
        Leak("0", "e", "b", "neighbour"),  # by way of c
        Leak("0", "e", "c", "neighbour"),
        Leak("1", "a", "d", "identical"),
        Leak("1", "b", "e", "neighbour"),
        Leak("1", "c", "e", "neighbour"),
    ]
    assert describe_leaks(folds, leaks) == [
        "0: of 2 test images 1 (50.0%) have an identical scan in training, "
        "2 (100.0%) that or a neighbouring frame",
        "1: of 3 test images 1 (33.3%) have an identical scan in training, "
        "3 (100.0%) that or a neighbouring frame",
        "all: of 5 test images 2 (40.0%) have an identical scan in training, "
        "5 (100.0%) that or a neighbouring frame",
    ]


def test_twins_on_one_side_and_validation_are_no_leak() -> None:
    folds = {"0": Parts(("a",), ("c", "d"))}
    assert find_leaks(folds, [pair("c", "d"), pair("b", "c")]) == []


def test_a_manifest_is_read_without_its_validation_part(tmp_path: Path) -> None:
    split = {"train": NAMES[:2], "validation": NAMES[2:3], "test": NAMES[3:]}
    (tmp_path / "splits.json").write_text(json.dumps({"splits": {"repeat 0": split}}))
    folds = read_folds(tmp_path / "splits.json", NAMES)
    assert folds == {"repeat 0": Parts(tuple(NAMES[:2]), tuple(NAMES[3:]))}


@pytest.mark.parametrize("suffix", ["", "_0000", ".png", "_0000.nii.gz"])
def test_nnunets_splits_are_read(tmp_path: Path, suffix: str) -> None:
    named = [f"{name}{suffix}" for name in NAMES]
    content = [{"train": named[:2], "val": named[2:]}, {"train": named[2:], "val": named[:2]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    folds = read_folds(tmp_path / "splits_final.json", NAMES)
    first, second = tuple(NAMES[:2]), tuple(NAMES[2:])
    assert folds == {"fold 0": Parts(first, second), "fold 1": Parts(second, first)}


def test_a_csv_holds_folds_or_one_split(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    rows = zip(NAMES, (0, 1, 1, 0), strict=True)
    path.write_text("image,fold\n" + "".join(f"{name}.png,{fold}\n" for name, fold in rows))
    outer, inner = (NAMES[0], NAMES[3]), (NAMES[1], NAMES[2])
    assert read_folds(path, NAMES) == {
        "fold 0": Parts(inner, outer),
        "fold 1": Parts(outer, inner),
    }
    rows = zip(NAMES, ("train", "validation", "test", "train"), strict=True)
    path.write_text("image,fold\n" + "".join(f"{name},{fold}\n" for name, fold in rows))
    assert read_folds(path, NAMES) == {"holdout": Parts(outer, (NAMES[2],))}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]]", "must be a manifest"),
        ("a.json", '{"folds": 1}', "must be a manifest"),
        ("a.json", '[{"train": []}]', "must be a manifest"),
        ("a.csv", "name,fold\nx,1\n", "must be a manifest"),
        ("a.csv", "image,fold\n", "must be a manifest"),
        ("a.csv", "image,fold\nbenign (9),1\n", r"got 1 unknown: benign \(9\)"),
        ("missing.csv", None, "must be a manifest"),
    ],
)
def test_other_files_and_unknown_names_are_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_folds(tmp_path / name, NAMES)


def test_the_command_names_the_pairs_and_finds_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUSI_TUNE_CACHE", str(tmp_path / "cache"))
    assert main(["phantom", str(tmp_path / "set"), "--num_images", "27"]) == 0
    twins = ["benign (8)", "benign (9)"]
    content = [{"train": twins[:1], "val": twins[1:]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    arguments = ["audit", str(tmp_path / "set"), "--splits", str(tmp_path / "splits_final.json")]
    capsys.readouterr()
    for times in (3, 0):
        assert main(arguments) == 0
        told = capsys.readouterr()
        assert told.err.count(": 27 in ") + told.err.count("pairs") == times
        assert "fold 0: benign (9) has benign (8) in training (" in told.out
        assert "fold 0: of 1 test images" in told.out
