"""What a page shows, in which order: the figures and pages of a run, a section each."""

from dataclasses import dataclass
from pathlib import Path

from busi_tune import run_directory


@dataclass(frozen=True)
class Section:
    """A heading, and the figures and pages under it, of which a run may lack some."""

    title: str
    items: tuple[str, ...]
    """`page:<name>` of tables/, `figure:<name>` of figures/; a `*` stands for any ending."""


FIGURES = {
    "models": "Dice of every test image, by model.",
    "folds": "Means of each fold.",
    "differences": "Paired differences of the models, image by image.",
    "curves-": "Loss and metrics over the epochs, training against validation.",
    "sizes": "Dice against the size of the lesion.",
    "thresholds": "Dice over the threshold.",
    "reliability": "Predicted probability against the share of lesion pixels.",
    "history": "The best value so far, over trials and over seconds.",
    "leaders": "Validation curves of the best trials.",
    "budget": "Where the seconds went.",
    "importances": "How much of the values' spread each setting explains.",
    "parallel": "The settings of every trial, the best ones in colour.",
    "slices": "The value over each setting.",
    "pareto": "The objectives against each other.",
}
"""What each figure shows, for those who cannot see it, by the beginning of its name."""

KFOLD = (
    Section("The models", ("figure:models", "page:models", "figure:folds")),
    Section("How sure: pairs of models", ("figure:differences", "page:pairs")),
    Section("The search inside the folds", ("page:nested",)),
    Section("Several models as one", ("page:ensemble",)),
    Section("Where it works and where not", ("page:subgroups", "figure:sizes")),
    Section(
        "Threshold and calibration",
        ("page:operating_point", "figure:thresholds", "page:calibration", "figure:reliability"),
    ),
    Section("Learning curves", ("figure:curves-*",)),
    Section("How it was scored", ("page:conventions", "page:report_protocol")),
    Section("Leaks between the folds", ("page:audit",)),
    Section("Each training", ("page:folds",)),
    Section("Methods", ("page:methods",)),
)
SEARCH = (
    Section("The winner", ("page:winner",)),
    Section(
        "How the search went",
        ("figure:history", "figure:leaders", "figure:budget", "figure:curves-best"),
    ),
    Section(
        "What mattered", ("page:choices", "figure:importances", "figure:slices", "figure:parallel")
    ),
    Section("Objectives", ("page:pareto", "figure:pareto")),
    Section("The trials", ("page:trials",)),
)


def find_items(run_dir: Path, section: Section) -> list[tuple[str, Path]]:
    """Return kind and file of what a run has of a section."""
    found = []
    for item in section.items:
        kind, _, name = item.partition(":")
        if kind == "page":
            files = sorted((run_dir / run_directory.TABLES).glob(f"{name}.md"))
        else:
            names = sorted(p.stem for p in (run_dir / run_directory.FIGURES).glob(f"{name}.png"))
            files = [_smaller(run_dir / run_directory.FIGURES, stem) for stem in names]
        found += [(kind, file) for file in files]
    return found


def describe_figure(name: str) -> str:
    """Return what a figure shows."""
    return next((text for start, text in FIGURES.items() if name.startswith(start)), name)


def _smaller(folder: Path, stem: str) -> Path:
    files = [path for path in (folder / f"{stem}.svg", folder / f"{stem}.png") if path.exists()]
    return min(files, key=lambda path: path.stat().st_size)
