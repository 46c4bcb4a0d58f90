from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busi_tune.data.busi import find_samples
from busi_tune.data.check import check_folder
from busi_tune.data.pixels import open_image, read_image, read_mask

GREY = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
LESION = np.zeros((24, 32), dtype=bool)
LESION[4:9, 6:20] = True


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path)
    return path


def with_alpha(colour: tuple[int, int, int], behind: tuple[int, int, int, int]) -> np.ndarray:
    return np.where(LESION[..., None], (*colour, 255), behind).astype(np.uint8)


def test_samples_are_sorted_whatever_the_order_of_the_file_system(
    busi_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = find_samples(busi_root)
    names = [sample.name for sample in listed]
    assert names == sorted(names)
    forwards = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(forwards(self))))
    assert find_samples(busi_root) == listed


def test_classes_are_a_setting(busi_root: Path) -> None:
    samples = find_samples(busi_root, classes=["normal", "benign"])
    assert [sample.label for sample in samples] == ["benign", "benign", "normal", "normal"]


def test_all_masks_of_an_image_belong_to_it_and_to_no_other(busi_root: Path) -> None:
    for number in (1, 2, 10):
        save(busi_root / "benign" / f"benign (1)_mask_{number}.png", LESION)
    save(busi_root / "benign" / "benign (10).png", GREY)
    by_name = {sample.name: sample for sample in find_samples(busi_root)}
    assert len(by_name) == 7
    assert len(by_name["benign (1)"].mask_paths) == 4
    assert by_name["benign (10)"].mask_paths == ()


def test_masks_are_united(tmp_path: Path) -> None:
    other = np.zeros_like(LESION)
    other[15:20, 1:5] = True
    paths = [save(tmp_path / "a.png", LESION), save(tmp_path / "b.png", other, "RGBA")]
    assert np.array_equal(read_mask(paths), LESION | other)


def test_masks_of_two_sizes_or_none_at_all_are_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", LESION), save(tmp_path / "b.png", LESION[:9])]
    with pytest.raises(ValueError, match="one size"):
        read_mask(paths)
    with pytest.raises(ValueError, match="at least one mask"):
        read_mask([])


@pytest.mark.parametrize("mode", [None, "RGB", "RGBA", "LA"])
def test_an_image_is_the_same_in_every_mode(tmp_path: Path, mode: str | None) -> None:
    image = read_image(save(tmp_path / "x.png", GREY, mode))
    assert image.dtype == np.uint8
    assert np.array_equal(image, GREY)


@pytest.mark.parametrize("mode", [None, "L", "RGB", "RGBA", "P"])
def test_a_mask_is_the_same_in_every_mode(tmp_path: Path, mode: str | None) -> None:
    mask = read_mask([save(tmp_path / "x.png", LESION, mode)])
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, LESION)


def test_a_palette_mask_is_read_by_colour_not_by_index(tmp_path: Path) -> None:
    save_palette(tmp_path / "x.png", np.where(LESION, 0, 1), [255, 0, 0, 0, 0, 0])
    assert np.array_equal(read_mask([tmp_path / "x.png"]), LESION)


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]


@pytest.mark.parametrize(
    ("inside", "outside", "colours", "mask"),
    [
        (1, 0, VOC, LESION),
        (2, 0, VOC, LESION),
        (0, 1, [0, 0, 0, 0, 0, 9], ~LESION),
        (0, 0, VOC, LESION & False),
        (1, 2, VOC, None),
        (1, 1, VOC, None),
    ],
    ids=["first class", "second class", "inverse", "black alone", "no black", "a colour alone"],
)
def test_two_entries_of_a_palette_one_of_them_black_are_a_mask_to_check_and_decoding(
    busi_root: Path, inside: int, outside: int, colours: list[int], mask: np.ndarray | None
) -> None:
    path = busi_root / "benign" / "benign (1)_mask.png"
    save_palette(path, np.where(LESION, inside, outside), colours)
    errors = [problem for problem in check_folder(busi_root) if problem.severity == "error"]
    assert bool(errors) == (mask is None)
    if mask is not None:
        assert np.array_equal(read_mask([path]), mask)


def test_a_palette_of_several_classes_is_refused_and_the_remedy_speaks_of_palettes(
    busi_root: Path,
) -> None:
    classes = np.where(LESION, 1, 0)
    classes[20:] = 2
    save_palette(busi_root / "benign" / "benign (1)_mask.png", classes, VOC)
    (problem,) = check_folder(busi_root)
    assert "foreground: 128" in problem.cause
    assert "palette of which two entries are used, one of them black" in problem.remedy


def save_palette(path: Path, indices: np.ndarray, colours: list[int]) -> None:
    picture = Image.fromarray(indices.astype(np.uint8)).convert("P")
    picture.putpalette(colours)
    picture.save(path)


@pytest.mark.parametrize("behind", [(0, 0, 0, 0), (255, 255, 255, 0)])
def test_transparent_pixels_of_a_mask_are_background(
    tmp_path: Path, behind: tuple[int, int, int, int]
) -> None:
    mask = read_mask([save(tmp_path / "x.png", with_alpha((0, 255, 0), behind))])
    assert np.array_equal(mask, LESION)


def test_masks_of_zeros_and_ones_are_read(tmp_path: Path) -> None:
    assert np.array_equal(read_mask([save(tmp_path / "x.png", LESION.astype(np.uint8))]), LESION)


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", GREY.astype(np.uint16))
    with pytest.raises(ValueError, match="8-bit"):
        open_image(path)


@pytest.fixture
def generic_root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        save(tmp_path / "images" / f"{name}.{'jpg' if name == 'c' else 'png'}", GREY)
        save(tmp_path / "masks" / f"{name}.png", LESION)
    return tmp_path


def test_the_generic_layout_pairs_equal_names(generic_root: Path) -> None:
    samples = find_samples(generic_root)
    assert [(s.name, s.label, s.group) for s in samples] == [
        (name, "unlabelled", name) for name in ("a", "b", "c")
    ]
    assert [path.name for s in samples for path in s.mask_paths] == ["a.png", "b.png", "c.png"]
    assert read_image(samples[2].image_path).shape == (24, 32)


def test_metadata_names_class_and_group(generic_root: Path) -> None:
    (generic_root / "metadata.csv").write_text(
        "group,image,class\np1,a.png,benign\np1,b,malignant\n,c.jpg,\n"
    )
    found = {s.name: (s.label, s.group) for s in find_samples(generic_root)}
    assert found == {
        "a": ("benign", "p1"),
        "b": ("malignant", "p1"),
        "c": ("unlabelled", "c"),
    }
    assert [s.name for s in find_samples(generic_root, classes=["malignant"])] == ["b"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("image,class\na,benign\nb,benign\n", "no row for c"),
        ("image\na\nb\nc\nd\n", "unknown images d"),
        ("image\na\na\nb\nc\n", "more than one row for a"),
        ("name\na\n", "must have the columns image"),
    ],
)
def test_metadata_that_does_not_fit_is_refused_by_name(
    generic_root: Path, content: str, fault: str
) -> None:
    (generic_root / "metadata.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"metadata\.csv.*{fault}"):
        find_samples(generic_root)


def write_groups(path: Path, rows: dict[str, str]) -> str:
    path.write_text("image,group\n" + "".join(f"{n},{g}\n" for n, g in rows.items()))
    return str(path)


def test_groups_come_from_a_csv_that_may_name_unused_classes(
    busi_root: Path, tmp_path: Path
) -> None:
    rows = {sample.name: "7" for sample in find_samples(busi_root)}
    groups = write_groups(tmp_path / "groups.csv", rows)
    samples = find_samples(busi_root, classes=["benign"], groups=groups)
    assert {sample.group for sample in samples} == {"7"}


def test_without_groups_an_image_is_its_own(busi_root: Path) -> None:
    assert all(sample.group == sample.name for sample in find_samples(busi_root))


def test_all_faults_of_a_groups_csv_are_in_one_message(busi_root: Path, tmp_path: Path) -> None:
    rows = {sample.name: "7" for sample in find_samples(busi_root)}
    del rows["benign (1)"]
    rows |= {"benign (2)": "", "stranger": "8"}
    groups = write_groups(tmp_path / "my.csv", rows)
    with pytest.raises(ValueError) as caught:
        find_samples(busi_root, groups=groups)
    for part in ("my.csv", "no row for benign (1)", "empty field for benign (2)", "stranger"):
        assert part in str(caught.value)


def test_groups_without_a_file_are_refused(busi_root: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.groups must be auto, none or a CSV"):
        find_samples(busi_root, groups="missing.csv")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        find_samples(tmp_path / "missing")
    with pytest.raises(ValueError, match="no image of class benign or malignant or normal"):
        find_samples(tmp_path)
