"""Folders of images: what is taken, what is refused, and that all faults are told at once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busi_tune.config import DataConfig
from busi_tune.data.phases import Phases
from busi_tune.data.pixels import read_image
from busi_tune.data.resizing import make_square
from busi_tune.prediction.inputs import Inputs, find_inputs, find_seen
from tests.prediction.conftest import write_set

DATA = DataConfig(image_size=16)
NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def find(folder: Path, skip_bad: bool = False) -> Inputs:
    with Phases() as phases:
        return find_inputs(folder, DATA, skip_bad, phases)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_images_of_any_mode_are_read_as_in_training(tmp_path: Path, mode: str) -> None:
    Image.fromarray(NOISE).convert(mode).save(tmp_path / "a.png")
    Image.fromarray(NOISE).save(tmp_path / "b.JPG", format="JPEG")
    inputs = find(tmp_path)
    assert inputs.known is None
    ((first, second),) = inputs.read(8, DATA)
    assert (first[0], second[0]) == ("a", "b")
    grey = read_image(tmp_path / "a.png")
    assert np.array_equal(first[1], grey)
    assert np.array_equal(first[2], make_square(grey, 16, "stretch"))


def test_batches_follow_the_order_of_names(tmp_path: Path) -> None:
    for name in "cabde":
        Image.fromarray(NOISE[..., 0]).save(tmp_path / f"{name}.png")
    batches = [[name for name, _, _ in batch] for batch in find(tmp_path).read(2, DATA)]
    assert batches == [["a", "b"], ["c", "d"], ["e"]]


def write_bad(folder: Path) -> None:
    good = folder / "good.png"
    Image.fromarray(NOISE).save(good)
    content = good.read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "no end.png").write_bytes(content[:-12])
    (folder / "empty.png").touch()
    Image.fromarray(NOISE).save(folder / "jpeg.png", format="JPEG")
    Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(NOISE).save(folder / "twice.png")
    Image.fromarray(NOISE).save(folder / "twice.jpg")
    Image.fromarray(NOISE).save(folder / "half.jpg")
    (folder / "half.jpg").write_bytes((folder / "half.jpg").read_bytes()[:300])


def test_all_bad_files_are_listed_at_once(tmp_path: Path) -> None:
    write_bad(tmp_path)
    with pytest.raises(ValueError) as caught:
        find(tmp_path)
    message = str(caught.value)
    for part in (
        "has 8 errors", "--skip_bad", "cut.png: truncated", "the end chunk (IEND) is missing",
        "empty.png: empty file", "JPEG data in a file named .png", "deep.png", "half.jpg",
        "2 files are named twice",
    ):  # fmt: skip
        assert part in message
    assert "good.png" not in message


def test_bad_files_are_left_out_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_bad(tmp_path)
    assert list(find(tmp_path, skip_bad=True).paths) == ["good"]
    assert "left out 8 of 9 images" in caplog.text
    (tmp_path / "good.png").unlink()
    with pytest.raises(ValueError, match="has 8 errors"):
        find(tmp_path, skip_bad=True)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.new("1", (6000, 5000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="decompression bomb: 6000 x 5000"):
        find(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        find(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no image"):
        find(tmp_path)


def test_masks_beside_their_images_are_not_predicted(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set") / "benign"
    names = list(find(folder).paths)
    assert names == sorted(p.stem for p in folder.glob("*.png") if "mask" not in p.stem)


@pytest.mark.parametrize("labels", [("benign", "malignant", "normal"), ("benign",)])
def test_a_known_layout_brings_masks_classes_and_groups(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    root = write_set(tmp_path / "set")
    for label in {"benign", "malignant", "normal"} - set(labels):
        (root / label).rename(tmp_path / label)
    inputs = find(root)
    assert inputs.known is not None
    assert tuple(inputs.paths) == inputs.known.names
    assert set(inputs.known.labels) == set(labels)
    assert all(path.stem == name for name, path in inputs.paths.items())


@pytest.mark.parametrize("has_masks", [True, False])
def test_images_and_masks_are_a_known_layout_too(tmp_path: Path, has_masks: bool) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(NOISE).save(tmp_path / "images" / "a.jpg")
    if has_masks:
        Image.fromarray(NOISE[..., 0] > 200).save(tmp_path / "masks" / "a.png")
    inputs = find(tmp_path)
    assert list(inputs.paths) == ["a"]
    assert (inputs.known is not None) is has_masks


def test_bad_masks_are_refused_as_by_the_data_check(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    Image.new("1", (9, 9)).save(root / "benign" / "benign (0)_mask.png")
    with pytest.raises(ValueError, match="differs from the image's"):
        find(root)


def test_images_of_training_are_found_by_content_and_else_by_name(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    new = tmp_path / "new"
    new.mkdir()
    content = (root / "benign" / "benign (3).png").read_bytes()
    (new / "copied.png").write_bytes(content)
    (new / "normal (2).png").write_bytes((root / "benign" / "benign (0).png").read_bytes())
    inputs = find(new)
    trained = {"benign (3)", "normal (2)", "normal (5)"}
    assert find_seen(inputs, trained, DataConfig(str(root))) == (["copied"], True)
    assert find_seen(inputs, trained, DataConfig()) == (["normal (2)"], False)
    assert find_seen(inputs, trained, DataConfig(str(tmp_path / "gone")))[0] == ["normal (2)"]


def test_pictures_elsewhere_in_a_folder_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_set(tmp_path / "set")
    for name in ("cyst/a.png", "benign/b.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("L", (9, 9), 70).save(root / name)
    find(root)
    assert "left out 2 files" in caplog.text
    assert "benign/b.jpg" in caplog.text and "cyst/a.png" in caplog.text


def test_images_of_training_are_found_in_classes_of_the_runs_own(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for folder in (root / "cyst", tmp_path / "new"):
        folder.mkdir(parents=True)
        Image.new("L", (9, 9), 70).save(folder / "a.png")
    data = DataConfig(str(root), classes=["cyst"])
    assert find_seen(find(tmp_path / "new"), {"a"}, data) == (["a"], True)
