"""A training's folder in the storage: whole, by one owner, and safe to read."""

import json
from pathlib import Path

import pytest

from busi_tune.remote.objects import Objects, each_of
from busi_tune.remote.training import MANIFEST, Manifest, StoredTraining, SupersededError
from busi_tune.remote.workplace import StoredFolder
from tests.remote.folders import read, write
from tests.s3_server import Server


def test_a_training_comes_back_as_it_was_and_replaced_files_are_gone(
    place: Objects, tmp_path: Path
) -> None:
    folder, stored = tmp_path / "here", StoredTraining(place)
    stored.claim()
    stored.push(write(folder, last__ckpt="one", epochs__csv="1"))
    write(folder, last__ckpt="two", epochs__csv="1 2", lock="", stop="")
    write(folder / "predictions", a__png="map")
    stored.push(folder)
    assert len([name for name in place.list() if name != MANIFEST]) == 3

    other = StoredTraining(place)
    other.pull(tmp_path / "there")
    files = {"last.ckpt": "two", "epochs.csv": "1 2", "predictions/a.png": "map"}
    assert read(tmp_path / "there") == files
    StoredTraining(place).pull(tmp_path / "driver", skip=("last.ckpt",))
    assert "last.ckpt" not in read(tmp_path / "driver")


def test_of_an_epoch_that_came_through_by_half_nothing_is_taken(
    place: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stored = tmp_path / "here", StoredTraining(place)
    stored.claim()
    stored.push(write(folder, last__ckpt="one", epochs__csv="1"))
    write(folder, last__ckpt="two", epochs__csv="1 2")
    with monkeypatch.context() as patch:
        patch.setattr(StoredTraining, "_write", lambda *_: 1 / 0)  # killed before the manifest
        with pytest.raises(ZeroDivisionError):
            stored.push(folder)
    assert len(place.list()) == 1 + 4
    StoredTraining(place).pull(tmp_path / "there")
    assert read(tmp_path / "there") == {"last.ckpt": "one", "epochs.csv": "1"}


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_damaged_object_is_named_and_refused(place: Objects, tmp_path: Path, fault: str) -> None:
    stored = StoredTraining(place)
    stored.claim()
    stored.push(write(tmp_path / "here", best__ckpt="weights", result__json="{}"))
    (name,) = (name for name in place.list() if name.startswith("best.ckpt"))
    if fault == "changed":
        place.put(name, b"weightz")
    else:
        place.delete(name)
    said = "its checksum does not fit" if fault == "changed" else "it is missing"
    with pytest.raises(ValueError, match=f"{name} is damaged: {said}.*remove all of s3://"):
        StoredTraining(place).pull(tmp_path / "there")
    assert not (tmp_path / "there" / "result.json").exists(), "what lacks a file is no result"


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_manifest_cannot_name_a_file_outside_of_the_folder(
    place: Objects, tmp_path: Path, name: str
) -> None:
    files = {name: {"sha256": "0" * 64, "bytes": 1}}
    place.put(MANIFEST, json.dumps({"owner": [1, "a"], "files": files}).encode())
    with pytest.raises(ValueError, match="outside of its folder"):
        StoredTraining(place).pull(tmp_path / "there")


def test_an_orphan_finds_that_its_training_belongs_to_its_successor(
    place: Objects, tmp_path: Path
) -> None:
    orphan, successor = StoredTraining(place), StoredTraining(place)
    orphan.claim()
    orphan.push(write(tmp_path / "orphan", last__ckpt="one"))
    successor.claim()
    successor.pull(tmp_path / "successor")
    with pytest.raises(SupersededError):
        orphan.push(write(tmp_path / "orphan", last__ckpt="two"))
    successor.push(write(tmp_path / "successor", last__ckpt="two'", best__ckpt="best"))

    # The orphan was just about to write when its successor claimed the training.
    assert orphan._owner is not None
    orphan._write(Manifest(orphan._owner, orphan._read().files))
    each_of(place.delete, [name for name in place.list() if name.startswith("best")])
    successor.push(tmp_path / "successor")
    StoredTraining(place).pull(tmp_path / "there")
    assert read(tmp_path / "there") == {"last.ckpt": "two'", "best.ckpt": "best"}


def test_with_its_end_a_training_leaves_nothing_that_an_orphan_wrote_late(
    place: Objects, tmp_path: Path
) -> None:
    stored = StoredTraining(place)
    stored.claim()
    place.put("last.ckpt~of-an-orphan", b"late")
    stored.put_mark("stop")
    stored.push(write(tmp_path / "here", best__ckpt="best"))
    assert "last.ckpt~of-an-orphan" in place.list()
    stored.push(write(tmp_path / "here", result__json="{}"))
    (best, manifest, result, stop) = sorted(place.list())
    assert (manifest, stop) == (MANIFEST, "stop")
    assert best.startswith("best.ckpt~") and result.startswith("result.json~")


def test_a_training_that_has_ended_is_not_written_again(place: Objects, tmp_path: Path) -> None:
    first, late = StoredTraining(place), StoredTraining(place)
    first.claim()
    first.push(write(tmp_path / "first", result__json="{}"))
    before = place.get(MANIFEST)
    late.claim()
    late.pull(tmp_path / "late")
    late.push(write(tmp_path / "late", other="x"))
    late.wait_for_end(seconds=0)
    assert place.get(MANIFEST) == before


def test_a_worker_goes_on_on_another_node_and_hears_that_it_is_to_stop(server: Server) -> None:
    uri, driver = server.uri("workplace"), StoredTraining(server.objects("workplace"))
    first = StoredFolder(uri, 0)
    folder = first.open(leads=True)
    write(folder, last__ckpt="one")
    first.keep()
    assert not first.is_asked_to_stop()
    driver.put_mark("stop")
    assert first.is_asked_to_stop()
    first.record_failure(RuntimeError("boom"), retry=False)
    assert first.has_failed_for_good()
    first.close()
    assert not folder.exists()

    second, rank = StoredFolder(uri, 0), StoredFolder(uri, 0)
    second.forget_failure()
    assert not second.has_failed_for_good()
    folder, other = second.open(leads=True), rank.open(leads=False)
    assert read(folder) == {"last.ckpt": "one", "stop": ""}
    assert read(other) == {}, "the rank that leads tells the others what it found"
    second.close()
    rank.close()
