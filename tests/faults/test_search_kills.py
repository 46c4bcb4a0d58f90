"""What the script that kills searches counts."""

from pathlib import Path

from experiments.faults.search_kills import count_again, look


def write_epochs(run_dir: Path, *seconds: float) -> None:
    folder = run_dir / "trainings" / "key"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{each}" for epoch, each in enumerate(seconds, 1)]
    (folder / "epochs.csv").write_text("\n".join(["epoch,seconds", *rows]) + "\n")


def test_a_finished_epoch_that_took_another_time_was_run_again(tmp_path: Path) -> None:
    write_epochs(tmp_path, 1.5, 2.5)
    before = look(tmp_path)
    write_epochs(tmp_path, 1.5, 2.5, 9.0)
    assert count_again(before, look(tmp_path)) == {"repeated": 0, "epochs_again": 0}
    write_epochs(tmp_path, 1.5, 2.75, 9.0)
    assert count_again(before, look(tmp_path)) == {"repeated": 0, "epochs_again": 1}
    write_epochs(tmp_path)
    assert count_again(before, look(tmp_path)) == {"repeated": 0, "epochs_again": 2}
