from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busi_tune.evaluation.counts import COUNTS
from busi_tune.results.pages.conventions import (
    CHANGES,
    PUBLISHED,
    SKIPPED,
    WHOLE,
    Rule,
    conventions_table,
    score,
    write_conventions,
)
from busi_tune.results.read import KfoldRun
from tests.results.conftest import read_kfold


def make_rows() -> pd.DataFrame:
    """Two trainings. Dice by row: 0.8, 0 (missed), 0.5, then 1 (empty), 0 (false lesion)."""
    counts = [(4, 1, 1, 10), (0, 0, 6, 10), (2, 2, 2, 10), (0, 0, 0, 16), (0, 3, 0, 13)]
    rows = pd.DataFrame(counts, columns=list(COUNTS))
    rows["image"] = list("abcde")
    rows["repeat"], rows["fold"] = 0, [0, 0, 1, 0, 1]
    return rows.assign(has_lesion=rows["tp"] + rows["fn"] > 0)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("ours"), (0.8 + 0 + 0.5) / 3),
        (Rule("normals in", images="all"), (0.8 + 0 + 0.5 + 1 + 0) / 5),
        (Rule("empty 0", images="all", both_empty=0), (0.8 + 0 + 0.5 + 0 + 0) / 5),
        (Rule("empty skipped", images="all", both_empty=SKIPPED), (0.8 + 0 + 0.5 + 0) / 4),
        (Rule("one-sided skipped", one_sided=SKIPPED), (0.8 + 0.5) / 2),
        (Rule("both", images="all", one_sided=SKIPPED), (0.8 + 0.5 + 1) / 3),
        (Rule("pooled", batch=WHOLE), 12 / (12 + 3 + 9)),
        (Rule("pooled, normals in", images="all", batch=WHOLE), 12 / (12 + 6 + 9)),
        # Fold 0 has the batches a + b and, of all images, d; fold 1 has c, of all c + e.
        (Rule("batches", batch=2), (8 / 16 + 0.5) / 2),
        (Rule("batches, normals in", images="all", batch=2), ((8 / 16 + 1) / 2 + 4 / 11) / 2),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_rules_by_hand(rule: Rule, expected: float) -> None:
    assert score(make_rows(), rule) == pytest.approx(expected)


@pytest.mark.parametrize("ending", ["_first", "_resized", "_tuned"])
def test_other_counts_are_scored_in_their_place(ending: str) -> None:
    rows = make_rows()
    assert np.isnan(score(rows, Rule("absent", counts=ending)))
    changed = rows[list(COUNTS)].add_suffix(ending).assign(**{f"tp{ending}": [9, 9, 9, 0, 0]})
    both = pd.concat([rows, changed], axis=1)
    expected = (18 / 20 + 18 / 24 + 18 / 22) / 3
    assert score(both, Rule("changed", counts=ending)) == pytest.approx(expected)
    both.loc[2, f"fp{ending}"] = np.nan
    assert np.isnan(score(both, Rule("with a gap", counts=ending)))


def test_an_image_counts_once_whatever_its_repeats() -> None:
    rows = make_rows()
    again = rows[rows["image"] == "a"].assign(repeat=1, tp=0, fn=5)
    assert score(pd.concat([rows, again]), Rule("ours")) == pytest.approx((0.4 + 0 + 0.5) / 3)


def add_counts(run_dir: Path, *endings: str) -> KfoldRun:
    """Add columns to images.csv: the counts of the run under other endings."""
    table = pd.read_csv(run_dir / "images.csv")
    for ending in endings:
        table = pd.concat([table, table[list(COUNTS)].add_suffix(ending)], axis=1)
    table.to_csv(run_dir / "images.csv", index=False)
    run = read_kfold(run_dir)
    return run


def test_differences_are_to_ours_on_the_same_images(kfold_run: Path) -> None:
    run = add_counts(kfold_run, "_first", "_tuned")
    table = conventions_table(run)
    assert set(table["rule"]) == {
        rule.name for rules in (*CHANGES.values(), PUBLISHED) for rule in rules
    }
    for model in run.models:
        images = run.images[run.images["model"] == model]
        ours = {
            "tumour": images.loc[images["has_lesion"], "dice"].mean(),
            "all": images["dice"].mean(),
        }
        rows = table[table["model"] == model]
        expected = rows["dice"] - rows["reference"].map(ours)
        assert rows["difference"].to_numpy() == pytest.approx(expected.to_numpy())
        named = rows.set_index(["rule", "images"])["difference"]
        for images_name in ("tumour", "all"):
            assert named["ours", images_name] == pytest.approx(0)
            assert named["first mask alone, not the union", images_name] == pytest.approx(0)
        assert named["empty against empty scores 0", "all"] < 0
        assert named["a one-sided empty mask is skipped", "all"] > 0
    published = table[table["kind"] == "published"]
    assert set(published["reference"]) == {"tumour"}
    assert "Awesome_Segmentation_in_Medical" in set(
        published.loc[published["images"] == "all", "rule"]
    )


def test_the_page_shows_every_rule_and_says_what_was_taken(kfold_run: Path) -> None:
    run = add_counts(kfold_run, "_first", "_tuned")
    write_conventions(run)
    page = (kfold_run / "tables" / "conventions.md").read_text()
    for text in ("pooled per batch of 32", "RWKV-UNet", "first mask alone", "(+0.000)", "n = 16"):
        assert text in page
    captions = [line for line in page.splitlines() if line.startswith("**Table")]
    for said in ("Tumour images: n = 16.", "All images, normal ones included: n = 24.", "scores 1"):
        assert said in captions[2]
    assert "on their own images" in captions[3]
    assert "Left out" not in page
    first = [path.read_bytes() for path in sorted((kfold_run / "tables").glob("conventions.*"))]
    write_conventions(run)
    assert first == [
        path.read_bytes() for path in sorted((kfold_run / "tables").glob("conventions.*"))
    ]
    assert len(first) == 3


def test_rules_without_counts_are_named_not_shown(kfold_run: Path) -> None:
    run = read_kfold(kfold_run)
    write_conventions(run)
    page = (kfold_run / "tables" / "conventions.md").read_text()
    left_out = next(line for line in page.splitlines() if line.startswith("Left out"))
    assert "first mask alone, not the union; operating point chosen" in left_out
    assert page.count("first mask alone") == 1


def test_without_normal_images_there_is_no_rule_for_them(kfold_run: Path) -> None:
    table = pd.read_csv(kfold_run / "images.csv")
    table[table["tp"] + table["fn"] > 0].to_csv(kfold_run / "images.csv", index=False)
    run = read_kfold(kfold_run)
    assert set(conventions_table(run)["images"]) == {"tumour"}
    write_conventions(run)
    page = (kfold_run / "tables" / "conventions.md").read_text()
    assert "## All images" not in page
    assert "empty against empty scores 0" not in page
