import logging
from pathlib import Path

import pytest

from busi_tune.config import DataConfig
from busi_tune.data import duplicates, groups
from busi_tune.data.busi import Sample, find_samples
from busi_tune.data.cache import load_images
from busi_tune.data.duplicates import Pair
from busi_tune.data.groups import load_pairs, unite_groups
from busi_tune.data.phantom import write_phantom

STILL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def pair(first: str, second: str) -> Pair:
    return Pair(first, second, "identical", 1.0, 9, 1.0, STILL)


def sample(name: str, group: str = "") -> Sample:
    return Sample(name, "benign", Path(f"{name}.png"), (), group or name)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "set"
    write_phantom(root, 24)
    return root


def test_twins_are_in_one_group_with_auto_and_in_none_for_naive_folds(
    phantom: Path, tmp_path: Path
) -> None:
    config = DataConfig(root=str(phantom), image_size=16, cache_dir=str(tmp_path), groups="auto")
    images = load_images(config)
    by_name = dict(zip(images.names, images.groups, strict=True))
    assert by_name.pop("benign (9)") == by_name["benign (8)"] == "benign (8)"
    assert all(name == group for name, group in by_name.items())
    config.groups = "none"
    assert load_images(config).groups == images.names


def test_pairs_are_found_once_per_content(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def find(samples: list[Sample], progress: object) -> list[Pair]:
        calls.append(len(samples))
        return [pair("benign (1)", "benign (2)")]

    monkeypatch.setattr(groups, "find_pairs", find)
    config = DataConfig(root=str(phantom), image_size=16, cache_dir=str(tmp_path), groups="auto")
    first = load_images(config).groups
    config.image_size = 24
    assert load_images(config).groups == first
    assert calls == [24]
    config.classes = ["benign"]
    load_images(config)
    assert calls == [24, 14]


@pytest.mark.parametrize("content", ["", "[", '[{"first": 1}]', '{"a": 1}', "[1]"])
def test_damaged_pairs_are_found_again(
    phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    samples = [s for s in find_samples(phantom) if s.name in ("benign (8)", "benign (9)")]
    whole = load_pairs(samples, "hash", tmp_path)
    assert [(p.first, p.second) for p in whole] == [("benign (8)", "benign (9)")]
    (path,) = tmp_path.rglob("pairs.json")
    path.write_text(content)
    assert load_pairs(samples, "hash", tmp_path) == whole
    assert "damaged" in caplog.text
    caplog.clear()
    assert load_pairs(samples, "hash", tmp_path) == whole
    assert caplog.text == ""


def test_groups_that_are_known_are_united_with_near_duplicates() -> None:
    samples = [sample("a", "woman 1"), sample("b", "woman 1"), sample("c", "woman 2"), sample("d")]
    united = unite_groups(samples, [pair("b", "c")])
    assert [s.group for s in united] == ["woman 1", "woman 1", "woman 1", "d"]


def test_a_group_too_large_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    samples = [sample(str(index)) for index in range(duplicates.LARGEST_GROUP + 1)]
    links = [pair("0", other.name) for other in samples[1:]]
    with caplog.at_level(logging.WARNING):
        unite_groups(samples, links)
    assert "has 11 images, more than 10" in caplog.text
