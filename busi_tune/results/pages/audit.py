"""The table of a cross-validation's audit, from audit.csv and the names in splits.json."""

from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.results.pages.tables import Table, write_csv, write_page
from busi_tune.run_directory import read_json

OWN, NAIVE = "own", "naive"
NAMES = {OWN: "folds of this run", NAIVE: "naive folds"}


def write_audit(run_dir: Path) -> None:
    """Write tables/audit as CSV, Markdown and LaTeX.

    Raises:
        OSError: audit.csv or splits.json is missing.
    """
    table = audit_table(run_dir)
    folder = run_dir / run_directory.TABLES
    write_csv(folder / "audit.csv", table)
    shown = pd.DataFrame(
        {
            "Folds": NAMES[row["folds"]],
            "Tests": row["num_tests"],
            "Identical scan in training": f"{row['identical']} ({row['identical_share']:.1%})",
            "Or neighbouring frame": f"{row['related']} ({row['related_share']:.1%})",
        }
        for row in table.to_dict("records")
    )
    number = int(table["num_tests"].iloc[0])
    num_leaks = int((_read(run_dir)["folds"] == OWN).sum())
    caption = (
        "Test images with a near-duplicate in training: an identical scan, or that or a "
        f"neighbouring frame of the same lesion. n = {number} tests, of which the shares are: "
        "the test images, with and without lesion, of all folds and repeats. "
        "Naive folds: as many, with the same seed, drawn over single images. Training is what "
        "weights are learnt from, without the validation part."
    )
    named = (
        f"`{run_directory.AUDIT}` names the {num_leaks} pairs that the folds of this run separate."
        if num_leaks
        else "No near-duplicate of a test image is in training in the folds of this run. "
        f"`{run_directory.AUDIT}` names the pairs that naive folds would separate."
    )
    write_page(folder, "audit", "Audit of the folds", [Table(caption, shown), named])


def audit_table(run_dir: Path) -> pd.DataFrame:
    """Count the test images with a twin in training.

    Returns:
        A row for the run's own folds and one for naive ones: folds, num_tests, identical and
        related (which includes identical), each as a number and as a share of the tests.
    """
    splits = read_json(run_dir / run_directory.SPLITS)["splits"]
    num_tests = sum(len(parts["test"]) for parts in splits.values())
    leaks = _read(run_dir)
    rows = []
    for kind in (OWN, NAIVE):
        found = leaks[leaks["folds"] == kind]
        scans = found[found["level"] == "identical"]
        row: dict[str, object] = {"folds": kind, "num_tests": num_tests}
        for level, part in (("identical", scans), ("related", found)):
            number = len(part.drop_duplicates(["split", "image"]))
            row |= {level: number, f"{level}_share": number / num_tests}
        rows.append(row)
    return pd.DataFrame(rows)


def describe_audit(run_dir: Path) -> list[str]:
    """Say the counts, a line for the run's folds and one for naive ones."""
    return [
        f"{NAMES[row['folds']]}: of {row['num_tests']} test images {row['identical']} "
        f"({row['identical_share']:.1%}) have an identical scan in training, {row['related']} "
        f"({row['related_share']:.1%}) that or a neighbouring frame"
        for row in audit_table(run_dir).to_dict("records")
    ]


def _read(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / run_directory.AUDIT, dtype=str, keep_default_na=False)
