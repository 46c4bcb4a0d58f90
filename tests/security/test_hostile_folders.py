"""The commands on a folder in which most images are damaged."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from busi_tune.data.__main__ import main as data
from busi_tune.data.check import check_image
from busi_tune.jobs.predict import Request, predict_folder
from tests.prediction.conftest import Trained, trained
from tests.security.mutations import mutate

__all__ = ["trained"]  # the fixture
NUM_FILES = 80


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of mutations, some of which are still good."""
    folder = tmp_path / "hostile" / "images"
    folder.mkdir(parents=True)
    for seed in range(10_000, 10_000 + NUM_FILES):
        ending, content = mutate(seed)
        (folder / f"{seed}{ending}").write_bytes(content)
    return folder


def find_good(images: Path) -> set[str]:
    good = {path.stem for path in images.iterdir() if not check_image(path)[1]}
    assert 5 < len(good) < NUM_FILES / 2
    return good


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata
def test_data_check_names_every_bad_file(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = images.with_name("masks")
    masks.mkdir()
    for path in images.iterdir():
        Image.new("L", (43, 31)).save(masks / f"{path.stem}.png")
    assert data(["check", str(images.parent)]) == 2
    told = capsys.readouterr().out
    good = find_good(images)
    bad = [path.name for path in images.iterdir() if path.stem not in good]
    assert all(f"/images/{name}: " in told for name in bad)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_predict_refuses_the_folder_or_leaves_bad_images_out(
    images: Path, trained: Trained, tmp_path: Path
) -> None:
    good, out = find_good(images), tmp_path / "out"
    with pytest.raises(ValueError, match=f"has {NUM_FILES - len(good)} errors"):
        predict_folder(Request(trained.folder, images, out))
    assert not out.exists()
    predict_folder(Request(trained.folder, images, out, skip_bad=True))
    table = pd.read_csv(out / "predictions.csv", dtype={"image": str})
    assert set(table["image"]) == good
    assert {path.stem for path in (out / "masks").iterdir()} == good
