"""What counts as done, and done twice."""

from pathlib import Path

from tests.faults.runs import Done


def write_epochs(run_dir: Path, *seconds: float) -> None:
    folder = run_dir / "trainings" / "key"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{each}" for epoch, each in enumerate(seconds, 1)]
    (folder / "epochs.csv").write_text("\n".join(["epoch,seconds", *rows]) + "\n")


def test_a_finished_epoch_that_took_another_time_was_run_again(tmp_path: Path) -> None:
    write_epochs(tmp_path, 1.5, 2.5)
    before = Done.of(tmp_path)
    write_epochs(tmp_path, 1.5, 2.5, 9.0)
    assert before.count_again(Done.of(tmp_path)) == {"run_again": 0, "epochs_again": 0}
    write_epochs(tmp_path, 1.5, 2.75, 9.0)
    assert before.count_again(Done.of(tmp_path)) == {"run_again": 0, "epochs_again": 1}
    write_epochs(tmp_path)
    assert before.count_again(Done.of(tmp_path)) == {"run_again": 0, "epochs_again": 2}
