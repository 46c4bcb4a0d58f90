"""Images from anywhere: refused with a cause, or read; nothing escapes, hangs or fills memory."""

import io
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busi_tune.data.check import check_image
from busi_tune.data.pixels import MAX_PIXELS, MAX_SCANS, read_image
from tests.security.mutations import OTHERS, PNGS, join_chunks, split_chunks

ROOT = Path(__file__).parents[2]
NUM_MUTATIONS = 2000
NUM_PROCESSES = 2
DEADLINE_SECONDS = 550
"""Far beyond what is needed, so that a busy machine is no failure; a process has a limit too."""


def test_two_thousand_mutations_are_refused_or_read_and_nothing_escapes() -> None:
    share = NUM_MUTATIONS // NUM_PROCESSES
    module = [sys.executable, "-W", "ignore", "-m", "tests.security.read_mutations"]
    processes = [
        subprocess.Popen(
            [*module, str(part * share), str(share)],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in range(NUM_PROCESSES)
    ]
    try:
        told = [json.loads(each.communicate(timeout=DEADLINE_SECONDS)[0]) for each in processes]
    finally:
        for each in processes:
            each.kill()
    assert [each.returncode for each in processes] == [0] * NUM_PROCESSES
    for part in told:
        assert part["escaped"] == {}
        assert part["mebibytes"] < 1000
        assert part["slowest"][0] < 10, part["slowest"]
        # The mutations are neither all harmless nor all refused at the door.
        assert sum(part["outcomes"].values()) == share
        assert part["outcomes"]["read"] > share // 10
        assert part["outcomes"]["cannot be decoded"] > share // 20


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_another_format_under_an_images_name_is_refused(
    kind: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"image{ending}"
    path.write_bytes(OTHERS[kind])
    (problem,) = check_image(path)[1]
    assert problem.severity == "error"
    with pytest.raises((OSError, ValueError)):
        read_image(path)


def test_an_animated_png_is_read_as_its_first_frame(tmp_path: Path) -> None:
    (tmp_path / "still.png").write_bytes(PNGS["L"])
    (tmp_path / "moving.png").write_bytes(PNGS["animated"])
    assert check_image(tmp_path / "moving.png")[1] == []
    still, moving = (read_image(tmp_path / f"{name}.png") for name in ("still", "moving"))
    assert np.array_equal(still, moving)


def grey_png(side: int, pixels: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims to be a square of 8-bit grey."""
    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    parts = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return join_chunks(parts)


def progressive_jpeg(side: int, num_scans: int) -> bytes:
    """A grey JPEG with its last scan again and again."""
    content = io.BytesIO()
    Image.new("L", (side, side), 128).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    start = whole.rindex(b"\xff\xda")
    return (
        whole[:start] + whole[start:-2] * (num_scans - whole.count(b"\xff\xda") + 1) + b"\xff\xd9"
    )


MANY_ZEROS = zlib.compress(bytes(100_000_000), 9)
PROFILE = (b"iCCP", b"a\0\0" + MANY_ZEROS)
TEXT = (b"zTXt", b"a\0\0" + MANY_ZEROS)
INTERNATIONAL = (b"iTXt", b"a\0\1\0\0\0" + MANY_ZEROS)
LARGE = int(MAX_PIXELS**0.5) + 1
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "huge header": (".png", lambda: grey_png(60_000, b""), "decompression bomb"),
    "largest header": (".png", lambda: grey_png(2**32 - 1, b""), "decompression bomb"),
    "too large, and whole": (
        ".png", lambda: grey_png(LARGE, bytes(LARGE * (LARGE + 1))), "decompression bomb",
    ),
    "profile": (".png", lambda: grey_png(4, bytes(20), PROFILE), "too large"),
    "text": (".png", lambda: grey_png(4, bytes(20), TEXT), "too large"),
    "text of any language": (".png", lambda: grey_png(4, bytes(20), INTERNATIONAL), "too large"),
    "no pixels": (".png", lambda: grey_png(4, b""), "cannot be decoded"),
    "scans": (".jpg", lambda: progressive_jpeg(64, MAX_SCANS + 1), "decompression bomb: over 100"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name: str, tmp_path: Path) -> None:
    ending, make, cause = BOMBS[name]
    path = tmp_path / f"bomb{ending}"
    path.write_bytes(make())
    (problem,) = check_image(path)[1]
    assert cause in problem.cause


def test_what_swells_beside_the_pixels_is_left_alone(tmp_path: Path) -> None:
    """More pixels than the header says are not unpacked."""
    path = tmp_path / "image.png"
    path.write_bytes(grey_png(4, bytes(10_000_000)))
    assert check_image(path)[1] == []
    assert read_image(path).shape == (4, 4)


def test_the_largest_images_and_most_scans_allowed_are_read(tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5)
    (tmp_path / "large.png").write_bytes(grey_png(side, bytes(side * (side + 1))))
    (tmp_path / "scans.jpg").write_bytes(progressive_jpeg(64, MAX_SCANS))
    assert read_image(tmp_path / "large.png").shape == (side, side)
    assert read_image(tmp_path / "scans.jpg").shape == (64, 64)


READ = """
import sys
from pathlib import Path
from busi_tune.config import DataConfig
from busi_tune.data.cache import load_images
from busi_tune.data.check import check_folder
print(*check_folder(Path(sys.argv[1])), sep="\\n")
config = DataConfig(root=sys.argv[1], image_size=16, skip_bad=True, groups="none")
print(len(load_images(config)), "images")
"""


@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
def test_what_could_be_read_for_ever_is_refused(target: str, tmp_path: Path) -> None:
    for label in ("benign", "malignant", "normal"):
        (tmp_path / label).mkdir()
        (tmp_path / label / f"{label}.png").write_bytes(PNGS["L"])
        Image.new("L", (43, 31)).save(tmp_path / label / f"{label}_mask.png")
    image = tmp_path / "benign" / "benign.png"
    image.unlink()
    if target == "pipe":
        os.mkfifo(image)
    else:
        image.symlink_to(target)
    # In a process of its own, which can be ended where it hangs.
    told = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    ).stdout
    assert f"error: {image}: unreadable: no regular file" in told
    assert told.endswith("2 images\n")


def test_chunks_are_taken_apart_and_put_together_again() -> None:
    for name, content in PNGS.items():
        assert join_chunks(split_chunks(content)) == content, name
