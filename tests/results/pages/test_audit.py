import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from busi_tune.config import Config
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.splits import Split, make_folds, save_splits
from busi_tune.jobs.audit import audit_folds
from busi_tune.results.pages.audit import audit_table, describe_audit, write_audit
from busi_tune.settings import override

SPLITS = {"repeat-0/fold-0": {"test": ["a", "b"]}, "repeat-0/fold-1": {"test": ["c", "d"]}}


def write_run(folder: Path, rows: str) -> Path:
    (folder / "splits.json").write_text(json.dumps({"splits": SPLITS}))
    (folder / "audit.csv").write_text("folds,split,image,twin,level\n" + rows)
    return folder


def test_an_image_counts_once_and_related_includes_identical(tmp_path: Path) -> None:
    rows = (
        "naive,repeat-0/fold-0,a,c,identical\nnaive,repeat-0/fold-0,a,d,identical\n"
        "naive,repeat-0/fold-1,c,a,identical\nnaive,repeat-0/fold-1,d,a,neighbour\n"
    )
    table = audit_table(write_run(tmp_path, rows)).set_index("folds")
    assert list(table.loc["own"]) == [4, 0, 0.0, 0, 0.0]
    assert list(table.loc["naive"]) == [4, 2, 0.5, 3, 0.75]
    assert describe_audit(tmp_path) == [
        "folds of this run: of 4 test images 0 (0.0%) have an identical scan in training, "
        "0 (0.0%) that or a neighbouring frame",
        "naive folds: of 4 test images 2 (50.0%) have an identical scan in training, "
        "3 (75.0%) that or a neighbouring frame",
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "No near-duplicate of a test image is in training"),
        ("own,repeat-0/fold-0,a,c,identical\n", "names the 1 pairs"),
    ],
)
def test_the_page_says_what_leaks_and_is_the_same_again(
    tmp_path: Path, rows: str, said: str
) -> None:
    write_audit(write_run(tmp_path, rows))
    files = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    assert sorted(files) == ["audit.csv", "audit.md", "audit.tex"]
    assert said in files["audit.md"].decode()
    assert "n = 4 tests, of which the shares are" in files["audit.md"].decode()
    write_audit(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()} == files


def draw(images: ImageSet) -> dict[str, Split]:
    folds = make_folds(images.labels, images.groups, 3, seed=0)
    return {f"repeat-0/fold-{number}": fold for number, fold in enumerate(folds)}


@pytest.mark.parametrize("groups", ["auto", "none"])
def test_grouped_folds_do_not_leak_and_naive_ones_do(
    tmp_path: Path, groups: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {
        "data.phantom_images": 27, "data.image_size": 16, "data.groups": groups
    }  # fmt: skip
    config = override(Config(), settings)
    images = load_images(config.data)
    splits, naive = draw(images), draw(replace(images, groups=images.names))
    save_splits(tmp_path / "splits.json", splits, images)
    with caplog.at_level("INFO", logger="busi_tune"):
        audit_folds(splits, lambda: naive, images, config, tmp_path)
    assert [text for text in describe_audit(tmp_path) if text not in caplog.text] == []
    table = audit_table(tmp_path).set_index("folds")
    assert table.loc["naive", "related"] > 0
    expected = 0 if groups == "auto" else table.loc["naive", "related"]
    assert table.loc["own", "related"] == expected
    leaks = pd.read_csv(tmp_path / "audit.csv")
    assert len(leaks[leaks["folds"] == "own"]) == (leaks["folds"] == "naive").sum() * (
        groups == "none"
    )
    written = (tmp_path / "audit.csv").stat().st_mtime_ns
    audit_folds(splits, lambda: naive, images, config, tmp_path)
    assert (tmp_path / "audit.csv").stat().st_mtime_ns == written
