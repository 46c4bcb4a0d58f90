import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from busi_tune.data.busi import find_samples
from busi_tune.data.check import Problem, check_folder
from busi_tune.data.pixels import MAX_PIXELS

IMAGE = "benign/benign (1).png"
MASK = "benign/benign (1)_mask.png"
Damage = Callable[[Path], None]


def errors(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def cut(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flip_bit(path: Path, position: float = 0.7) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 4
    path.write_bytes(content)


def cut_end_chunk(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def save_as_jpeg(path: Path) -> None:
    picture = Image.open(path).convert("L")
    picture.save(path, format="JPEG")


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def bomb(path: Path, side: int = 60_000) -> None:
    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(bytes(1000))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated": (cut, "truncated"),
    "truncated in the header": (lambda path: path.write_bytes(path.read_bytes()[:20]), "truncated"),
    "bit-flipped pixels": (flip_bit, "checksum of chunk IDAT"),
    "bit-flipped signature": (lambda path: flip_bit(path, 0), "not a PNG"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "text": (lambda path: path.write_bytes(b"some text"), "not a PNG"),
    "no end chunk": (cut_end_chunk, "end chunk"),
    "JPEG": (save_as_jpeg, "JPEG data"),
    "bomb": (bomb, "decompression bomb"),
    "smaller bomb": (lambda path: bomb(path, int(MAX_PIXELS**0.5) + 1), "decompression bomb"),
    "a folder": (replace_by_folder, "unreadable"),
    "a dead link": (replace_by_dead_link, "unreadable"),
}


@pytest.mark.parametrize("victim", [IMAGE, MASK])
@pytest.mark.parametrize(("damage", "cause"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_one_error_with_file_cause_and_remedy(
    busi_root: Path, victim: str, damage: Damage, cause: str
) -> None:
    damage(busi_root / victim)
    (problem,) = check_folder(busi_root)
    assert problem.severity == "error"
    assert problem.path == busi_root / victim
    assert cause in problem.cause
    assert problem.remedy


def test_every_flipped_bit_of_a_file_is_found(busi_root: Path) -> None:
    path = busi_root / MASK
    whole = path.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        assert errors(check_folder(busi_root, classes=["benign"])), position


def test_a_bomb_is_refused_from_its_header(
    busi_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb(busi_root / IMAGE, side=7000)

    decoded = list[int]()
    load = ImageFile.ImageFile.load

    def decode(self: ImageFile.ImageFile) -> object:
        decoded.append(self.width * self.height)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    causes = [problem.cause for problem in check_folder(busi_root, classes=["benign"])]
    assert any("7000 x 7000 pixels" in cause for cause in causes)
    assert decoded, "the others are decoded"
    assert max(decoded) <= MAX_PIXELS


def test_image_and_mask_must_go_together(busi_root: Path) -> None:
    (busi_root / MASK).unlink()
    (busi_root / "malignant" / "malignant (2).png").unlink()
    stray, lone = check_folder(busi_root)
    assert (lone.path.name, lone.cause) == ("benign (1).png", "image without mask")
    assert stray.path.name == "malignant (2)_mask.png"
    assert stray.cause == "mask without image malignant (2).png"


def test_sizes_must_be_equal(busi_root: Path) -> None:
    Image.new("1", (31, 17)).save(busi_root / MASK)
    (problem,) = errors(check_folder(busi_root))
    assert problem.path == busi_root / MASK
    assert "31 x 17" in problem.cause
    assert "32 x 24" in problem.cause


@pytest.mark.parametrize(
    ("values", "strange"),
    [([0, 77, 255], "77"), ([0, 128], "128"), ([0, 1, 2], "1, 2"), ([0, 1, 255], "1")],
)
def test_values_between_background_and_foreground_are_named(
    busi_root: Path, values: list[int], strange: str
) -> None:
    pixels = np.zeros((24, 32), dtype=np.uint8)
    pixels[0, : len(values)] = values
    Image.fromarray(pixels).save(busi_root / MASK)
    (problem,) = check_folder(busi_root)
    assert problem.cause.endswith(f"foreground: {strange}")


@pytest.mark.parametrize("foreground", [1, 255])
def test_two_valued_masks_pass(busi_root: Path, foreground: int) -> None:
    pixels = np.zeros((24, 32), dtype=np.uint8)
    pixels[3:9, 4:9] = foreground
    Image.fromarray(pixels).save(busi_root / MASK)
    assert check_folder(busi_root) == []


def test_a_lesion_in_class_normal_is_an_error(busi_root: Path) -> None:
    path = busi_root / "normal" / "normal (1)_mask.png"
    path.write_bytes((busi_root / MASK).read_bytes())
    (problem,) = check_folder(busi_root)
    assert (problem.path, problem.severity) == (path, "error")
    assert "non-empty mask in class normal" in problem.cause


def test_an_empty_mask_elsewhere_is_a_warning(busi_root: Path) -> None:
    Image.new("1", (32, 24)).save(busi_root / MASK)
    (problem,) = check_folder(busi_root)
    assert problem.severity == "warning"
    assert problem.cause == "empty mask in class benign"


def test_one_empty_mask_beside_a_drawn_one_is_fine(busi_root: Path) -> None:
    Image.new("1", (32, 24)).save(busi_root / "benign" / "benign (1)_mask_1.png")
    assert check_folder(busi_root) == []


def test_missing_and_unknown_class_folders_are_errors(busi_root: Path) -> None:
    (busi_root / "normal").rename(busi_root / "healthy")
    found = {problem.path.name: problem.cause for problem in errors(check_folder(busi_root))}
    assert found["normal"] == "missing class folder"
    assert "unknown class folder" in found["healthy"]


def test_classes_that_were_chosen_are_the_only_ones_expected(busi_root: Path) -> None:
    (busi_root / "normal").rename(busi_root / "cyst")
    assert check_folder(busi_root, classes=["benign", "malignant"]) == []
    assert check_folder(busi_root, classes=["cyst"])[0].cause == "empty mask in class cyst"


def test_a_class_folder_without_images_is_an_error(busi_root: Path) -> None:
    for path in (busi_root / "normal").iterdir():
        path.unlink()
    (problem,) = check_folder(busi_root)
    assert problem.cause == "class folder without images"


def test_equal_names_in_two_classes_are_errors(busi_root: Path) -> None:
    for ending in ("", "_mask"):
        source = busi_root / "benign" / f"benign (1){ending}.png"
        (busi_root / "malignant" / source.name).write_bytes(source.read_bytes())
    assert [problem.cause for problem in check_folder(busi_root)] == [
        "2 images are named benign (1)"
    ] * 2


def test_what_is_ignored_is_said(busi_root: Path) -> None:
    (busi_root / "benign" / "notes.txt").write_text("text")
    (busi_root / "stray.png").write_bytes((busi_root / IMAGE).read_bytes())
    problems = check_folder(busi_root)
    assert {problem.path.name for problem in problems} == {"notes.txt", "stray.png"}
    assert errors(problems) == []


def test_everything_is_listed_at_once(busi_root: Path) -> None:
    cut(busi_root / IMAGE)
    (busi_root / "malignant" / "malignant (1)_mask.png").unlink()
    flip_bit(busi_root / "normal" / "normal (1).png")
    (busi_root / "other").mkdir()
    progress: list[tuple[int, int]] = []
    problems = check_folder(busi_root, progress=lambda *state: progress.append(state))
    assert len(errors(problems)) == 4
    assert progress == [(done, 6) for done in range(1, 7)]


def test_the_generic_layout_is_checked_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("L", (8, 8), 255).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "c.png")
    (tmp_path / "metadata.csv").write_text("image,class\na,benign\n")
    found = {problem.path.name: problem.cause for problem in check_folder(tmp_path)}
    assert found["a.png"] == "image without mask"
    assert found["c.png"] == "mask without image c.png"
    assert "no row for b" in found["metadata.csv"]


def test_classes_of_the_generic_layout_need_a_metadata_file(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8), 255).save(tmp_path / folder / "a.png")
    assert check_folder(tmp_path) == check_folder(tmp_path, ["unlabelled"]) == []
    (problem,) = check_folder(tmp_path, ["benign"])
    assert problem.path == tmp_path / "metadata.csv"
    assert "missing" in problem.cause and "columns image and class" in problem.remedy
    with pytest.raises(ValueError, match=r"metadata\.csv: missing; .* no image of class benign"):
        find_samples(tmp_path, ["benign"])
    (tmp_path / "metadata.csv").write_text("image,class\na,malignant\n")
    (problem,) = check_folder(tmp_path, ["benign"])
    assert "name its classes in data.classes" in problem.remedy


def jpeg_bomb(path: Path) -> None:
    content = path.read_bytes()
    size = content.index(b"\xff\xc0") + 5  # of the frame: marker, length and depth come before
    path.write_bytes(content[:size] + (60_000).to_bytes(2) * 2 + content[size + 4 :])


def save_as_png(path: Path) -> None:
    Image.open(path).save(path, format="PNG")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (cut, "truncated"),
        (jpeg_bomb, "decompression bomb"),
        (save_as_png, "PNG data in a file named .jpg; rename it to .png"),
        (lambda path: path.write_bytes(b"some text"), "not a JPEG file"),
    ],
)
def test_jpeg_images_of_the_generic_layout_are_checked(
    tmp_path: Path, damage: Damage, cause: str
) -> None:
    for folder, ending in (("images", "jpg"), ("masks", "png")):
        (tmp_path / folder).mkdir()
        Image.effect_noise((64, 64), 50).point(lambda value: 255 * (value > 128)).save(
            tmp_path / folder / f"a.{ending}"
        )
    assert check_folder(tmp_path) == []
    damage(tmp_path / "images" / "a.jpg")
    (problem,) = check_folder(tmp_path)
    assert cause in str(problem)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    (problem,) = check_folder(tmp_path / "nowhere")
    assert problem.cause == "no such folder"


@pytest.mark.real_data
def test_real_images_pass(busi_folder: Path) -> None:
    assert errors(check_folder(busi_folder, classes=["normal"])) == []
