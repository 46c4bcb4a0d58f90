import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from busi_tune.data.__main__ import main
from busi_tune.data.busi import Sample, find_samples
from busi_tune.data.duplicate_report import (
    Comparison,
    compare_masks,
    describe_ceiling,
    describe_contradictions,
)
from busi_tune.data.duplicates import (
    Level,
    Pair,
    find_alarms,
    find_pairs,
    group_images,
    unscale,
)
from busi_tune.data.phantom import render, save

REAL = Path(__file__).parents[3] / "shared" / "busi"
STILL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def scale(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = image.shape
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def annotate(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    pen.text((20, image.shape[0] - 20), "LT LOQ 3", fill=255)
    for x, y in ((60, 50), (110, 50), (85, 30), (85, 80)):
        pen.line((x - 4, y, x + 4, y), fill=255, width=2)
        pen.line((x, y - 4, x, y + 4), fill=255, width=2)
    pen.line((60, 50, 110, 50), fill=255)
    return np.asarray(picture)


def crop_to_sector(image: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(image.shape)
    inside = np.abs(columns - image.shape[1] / 2) < image.shape[1] * 0.35 + rows * 0.35
    return np.where(inside, image, 0).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "copied": lambda image: image,
    "brighter": lambda image: np.clip(image * 1.3 + 10, 0, 255).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    "half size": lambda image: scale(image, 0.5),
    "native scale": lambda image: scale(image, 1.94),
    "cropped": lambda image: image[12:-6, 14:-10],
    "shifted": lambda image: np.pad(image, ((8, 0), (10, 0)))[:-8, :-10],
    "turned": lambda image: ndimage.rotate(image, 3, reshape=False, order=1),
    "annotated": annotate,
    "sector": crop_to_sector,
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten unrelated scans, all with the same text and calipers but three, and a twin of each."""
    root = tmp_path_factory.mktemp("scans")
    (root / "benign").mkdir()
    for number, (name, change) in enumerate(CHANGES.items()):
        image, masks = render(np.random.default_rng(number), "benign")
        image = scale(image, 1.5)
        masks = [np.asarray(Image.fromarray(mask).resize(image.shape[::-1])) for mask in masks]
        shown = annotate(image) if number > 2 and name != "annotated" else image
        save(root / "benign" / f"scan ({number}).png", shown, masks)
        twin = change(image)
        empty = [np.zeros(twin.shape, dtype=bool)]
        save(root / "benign" / f"twin ({number}).png", twin, empty)
    return root


@pytest.fixture(scope="module")
def pairs(scans: Path) -> list[Pair]:
    return find_pairs(find_samples(scans, ["benign"]))


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=list(CHANGES))
def test_a_changed_copy_is_found(pairs: list[Pair], number: int) -> None:
    found = {(pair.first, pair.second) for pair in pairs}
    assert (f"scan ({number})", f"twin ({number})") in found


def test_shared_text_and_calipers_relate_no_images(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert pair.first.split()[1] == pair.second.split()[1]


def test_a_pair_says_where_one_image_lies_in_the_other(pairs: list[Pair]) -> None:
    by_name = {pair.first: pair for pair in pairs}
    assert by_name["scan (0)"].level == "identical"
    assert by_name["scan (0)"].score > 0.99
    changes = list(CHANGES)
    half, native = (
        by_name[f"scan ({changes.index(name)})"] for name in ("half size", "native scale")
    )
    assert half.scale == pytest.approx(0.5, rel=0.02)
    assert native.scale == pytest.approx(1.94, rel=0.02)
    cropped = np.array(by_name[f"scan ({changes.index('cropped')})"].matrix)
    np.testing.assert_allclose(cropped, [[1, 0, -14], [0, 1, -12]], atol=1.0)


def test_progress_goes_through_features_candidates_and_pairs(scans: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    find_pairs(find_samples(scans, ["benign"])[:3], lambda *state: seen.append(state))
    assert seen == [
        (phase, done, 3) for phase in ("features", "candidates", "pairs") for done in (1, 2, 3)
    ]


def test_empty_and_tiny_images_are_related_to_nothing(tmp_path: Path) -> None:
    samples = []
    for number, shape in enumerate([(1, 1), (64, 48), (64, 48), (3, 400)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.zeros(shape, dtype=np.uint8)).save(path)
        samples.append(Sample(path.stem, "normal", path, (), path.stem))
    assert find_pairs(samples) == []
    assert find_pairs(samples[:1]) == []


def test_a_damaged_image_is_named_with_the_remedy(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    sample = Sample("x", "normal", tmp_path / "x.png", (), "x")
    with pytest.raises(ValueError, match=r"x\.png cannot be read.*data check"):
        find_pairs([sample])


def pair(first: str, second: str, score: float = 1.0, level: Level = "identical") -> Pair:
    return Pair(first, second, level, score, 9, 1.0, STILL)


def test_groups_are_what_pairs_connect_and_are_named_by_their_first_image() -> None:
    groups = group_images(list("abcdef"), [pair("b", "d"), pair("d", "f"), pair("a", "e")])
    assert groups == {"a": "a", "b": "b", "c": "c", "d": "b", "e": "a", "f": "b"}
    assert group_images(["a", "b"], []) == {"a": "a", "b": "b"}


@pytest.mark.parametrize(("size", "num_alarms"), [(10, 0), (11, 1)])
def test_a_group_beyond_ten_raises_an_alarm_that_names_its_weakest_link(
    size: int, num_alarms: int
) -> None:
    names = [f"i{index}" for index in range(size + 1)]
    links = [pair(a, b, 0.5 + index / 100) for index, (a, b) in enumerate(pairwise(names))]
    alarms = find_alarms(group_images(names, links[:-1]), links[:-1])
    assert len(alarms) == num_alarms
    if alarms:
        assert "group i0 has 11 images" in alarms[0]
        assert "first: i0 - i1 (0.50)" in alarms[0]


def test_an_alignment_of_scaled_images_is_one_of_the_images() -> None:
    # the second image is the first without its 10 left columns, twice as large; 0.5 and 0.25 of
    # each were compared, so that both were compared at one scale
    matrix = np.array(unscale(np.array([[1, 0, -5.0], [0, 1, 0]]), 0.5, 0.25))
    np.testing.assert_allclose(matrix, [[2, 0, -19.5], [0, 2, 0.5]])


def test_masks_are_compared_aligned_and_over_what_both_images_show() -> None:
    first = np.zeros((20, 30), dtype=bool)
    first[5:11, 8:20] = True
    cropped = first[3:, 12:]
    shifted = Pair("a", "b", "identical", 1, 9, 1, ((1, 0, -12), (0, 1, -3)))
    assert compare_masks(first, cropped, shifted) == 1
    assert compare_masks(first, np.zeros_like(cropped), shifted) == 0
    assert compare_masks(np.zeros_like(first), np.zeros_like(cropped), shifted) is None
    doubled = Pair("a", "b", "identical", 1, 9, 1, ((2, 0, 0.5), (0, 2, 0.5)))
    assert compare_masks(first, np.kron(first, np.ones((2, 2), dtype=bool)), doubled) == 1


def test_contradictions_and_the_ceiling_are_told() -> None:
    comparisons = [
        Comparison(pair("a", "b"), ("benign", "malignant"), 0.5),
        Comparison(pair("c", "d"), ("benign", "benign"), 0.9),
        Comparison(pair("e", "f", level="neighbour"), ("benign", "normal"), None),
    ]
    assert describe_contradictions(comparisons) == [
        "classes differ: a - b (identical)",
        "classes differ: e - f (neighbour)",
        "masks differ: a - b (Dice 0.50)",
    ]
    assert "Dice of 0.700 on average" in describe_ceiling(comparisons)
    assert "not known" in describe_ceiling(comparisons[2:])


def test_the_command_finds_the_same_again_and_writes_groups_pairs_and_a_sheet(
    scans: Path, pairs: list[Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "groups.csv"
    assert main(["duplicates", str(scans), "--classes", "benign", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "20 images: 20 in 10 groups, the largest of 2" in told.out
    assert "masks differ: scan (0) - twin (0) (Dice 0.00)" in told.out
    assert [line.split(":")[0] for line in told.err.splitlines()] == [
        "features", "candidates", "pairs",
    ]  # fmt: skip
    samples = find_samples(scans, ["benign"], str(out))
    assert {sample.group for sample in samples} == {f"scan ({n})" for n in range(10)}
    with (out.parent / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"image", "twin", "level", "score", "mask_dice"} <= set(rows[0])
    assert {(row["image"], row["twin"]) for row in rows} == {(p.first, p.second) for p in pairs}
    assert [float(row["score"]) for row in rows] == sorted(round(p.score, 4) for p in pairs)[::-1]
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.size == (1800, 2 * 144)


def test_a_csv_that_would_be_overwritten_is_refused(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["duplicates", str(scans), "--out", str(tmp_path / "pairs.csv")]) == 2
    assert "another name than pairs.csv" in capsys.readouterr().err


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the BUSI images")
def test_twins_and_neighbours_of_real_scans_are_told_apart() -> None:
    expected: dict[tuple[str, str], Level] = {
        ("malignant (95)", "malignant (96)"): "identical",  # a sector and a rectangle of it
        ("malignant (118)", "malignant (119)"): "identical",  # without and with calipers
        ("benign (333)", "malignant (77)"): "identical",  # two classes
        ("normal (39)", "normal (48)"): "identical",  # at native scales of 1 and 1.94
        ("benign (116)", "benign (122)"): "neighbour",
        ("malignant (27)", "malignant (28)"): "neighbour",
    }
    unrelated = {"benign (5)", "malignant (99)", "benign (30)", "benign (54)", "benign (32)"}
    names = {name for names in expected for name in names} | unrelated
    samples = [sample for sample in find_samples(REAL) if sample.name in names]
    assert {(p.first, p.second): p.level for p in find_pairs(samples)} == expected
