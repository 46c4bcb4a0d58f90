import json
import subprocess
import sys
from pathlib import Path

import pytest

from busi_tune.run_directory import (
    check_code,
    create,
    environment_record,
    hash_code,
    locked,
    remove_scraps,
    write_atomic,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_scrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sqlite3, sys
from pathlib import Path
from busi_tune.run_directory import write_atomic
from busi_tune.study.backup import backup_study
os.fsync = lambda descriptor: os._exit(1)
if sys.argv[2] == "study.db":
    sqlite3.connect(sys.argv[1] + "/study.db").execute("CREATE TABLE t (x)").connection.close()
    Path.replace = lambda path, target: os._exit(1)
    backup_study(Path(sys.argv[1], "study.db"), Path(sys.argv[1], "study.backup.db"))
write_atomic(Path(sys.argv[1], sys.argv[2]), "half")
"""


@pytest.mark.parametrize("name", ["trials.csv", "config.yaml", "last.ckpt", "study.db"])
def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(
    tmp_path: Path, name: str
) -> None:
    for other in (".notes", ".trials.csv", "trials.csv.abcdefgh", ".trials.csv.copy", ".x.db.12"):
        (tmp_path / other).touch()
    before = {path.name for path in tmp_path.iterdir()} | ({name} if name == "study.db" else set())
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), name])
    assert {path.name for path in tmp_path.iterdir()} > before
    remove_scraps(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_run_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "config.yaml").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        create(tmp_path / "run", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_directory_is_refused_with_the_way_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already: name another --run_dir"):
        create(tmp_path, lambda folder: None)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match=f"go on with it by --resume {tmp_path}"):
        create(tmp_path, lambda folder: None)


def test_the_lock_keeps_a_second_process_out_until_the_first_dies(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from busi_tune.run_directory import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(TimeoutError, match="in use by another process"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with locked(tmp_path, wait_seconds=5):
        pass


def test_a_longer_wait_for_the_lock_is_said_as_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("busi_tune.run_directory.SAY_SECONDS", 0.0)
    with locked(tmp_path), pytest.raises(TimeoutError), locked(tmp_path, wait_seconds=0.15):
        pass
    assert caplog.messages == [f"waiting for another process that works in {tmp_path}"]


def test_other_code_does_not_go_on_with_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = environment_record("search", "hash", 3)
    write_json(tmp_path / "environment.json", record)
    check_code(tmp_path)
    monkeypatch.setattr("busi_tune.run_directory.hash_code", lambda: "other")
    monkeypatch.setattr("busi_tune.run_directory._commit", lambda: "abc-dirty")
    message = rf"at commit {record['commit']}, and this is busi_tune \S+ at commit abc-dirty"
    with pytest.raises(ValueError, match=f"{message}.*Check out that commit.*or start a new run"):
        check_code(tmp_path)
    del record["code"]
    write_json(tmp_path / "environment.json", record)
    check_code(tmp_path)


def test_the_hash_of_the_code_is_of_every_source_file_and_its_name(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "inner" / "a.py").write_text("x = 1\n")
    hashes = [hash_code(package)]
    (package / "notes.txt").write_text("no code")
    assert hash_code(package) == hashes[0]
    (package / "inner" / "a.py").write_text("x = 2\n")
    hashes.append(hash_code(package))
    (package / "inner" / "a.py").rename(package / "b.py")
    hashes.append(hash_code(package))
    assert len(set(hashes)) == 3


def test_the_environment_names_versions_hardware_and_data() -> None:
    record = environment_record("search", "hash", 3)
    assert record["data_hash"] == "hash"
    assert record["packages"]["torch"]
    assert record["cpus"] >= 1
    json.dumps(record)
