from pathlib import Path

import pytest

from busi_tune.kfold import main
from tests.data.conftest import write_sample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six benign and four malignant images; two of these are one group."""
    rows = ["image,group"]
    for label, number in (("benign", 6), ("malignant", 4)):
        for index in range(number):
            name = f"{label} ({index})"
            write_sample(tmp_path / "set" / label, name)
            rows.append(f"{name},{'twins' if name in TWINS else name}")
    (tmp_path / "groups.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "set"


TWINS = ("malignant (0)", "malignant (1)")


@pytest.mark.parametrize(
    ("num_folds", "groups", "message"),
    [
        (1, "none", "kfold.num_folds must be at least 2, not 1"),
        (5, "none", "class malignant has 4 images in 4 groups; 4 is the largest that works"),
        (4, "groups.csv", "class malignant has 4 images in 3 groups; 3 is the largest that works"),
    ],
)
def test_a_number_of_folds_that_some_class_cannot_fill_is_refused(
    root: Path, num_folds: int, groups: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = groups if groups == "none" else str(root.parent / groups)
    run_dir = root.parent / "run"
    arguments = [
        f"--data.root={root}", "--data.classes=[benign,malignant]", f"--data.groups={named}",
        "--data.image_size=16", "--model.base_width=2", f"--kfold.num_folds={num_folds}",
        f"--run_dir={run_dir}",
    ]  # fmt: skip
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not run_dir.exists()
