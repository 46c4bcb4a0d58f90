import subprocess
import sys
from pathlib import Path

import pytest

from busi_tune.data.__main__ import main


def test_a_good_folder_exits_zero(busi_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(busi_root)]) == 0
    assert capsys.readouterr().out == f"{busi_root}: 0 errors, 0 warnings\n"


def test_every_error_is_a_line_and_the_exit_code_is_two(
    busi_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (busi_root / "benign" / "benign (1).png").write_bytes(b"")
    (busi_root / "normal" / "normal (2)_mask.png").unlink()
    (busi_root / "normal" / "notes.txt").write_text("text")
    assert main(["check", str(busi_root)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["warning", "error", "error"]
    assert lines[-1].endswith("2 errors, 1 warnings")


def test_classes_can_be_named(busi_root: Path) -> None:
    (busi_root / "normal").rename(busi_root / "other")
    assert main(["check", str(busi_root)]) == 2
    assert main(["check", str(busi_root), "--classes", "benign", "malignant"]) == 0


def test_the_phantom_set_is_made_and_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sheet = tmp_path / "set", tmp_path / "sheet.png"
    arguments = ["phantom", str(out), "--num_images", "3", "--seed", "4", "--sheet", str(sheet)]
    assert main(arguments) == 0
    assert sheet.exists()
    assert main(["check", str(out)]) == 0
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the phantom set needs a new or empty folder")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["phantom", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from busi_tune.data.__main__ import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'ray', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_check_loads_neither_torch_nor_ray(busi_root: Path) -> None:
    code = (
        "import sys; from busi_tune.data.__main__ import main\n"
        f"assert main(['check', {str(busi_root)!r}]) == 0\n"
        "import busi_tune.data.cache, busi_tune.data.splits\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
