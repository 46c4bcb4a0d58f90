import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busi_tune.config import DataConfig
from busi_tune.data import cache, store
from busi_tune.data.busi import find_samples
from busi_tune.data.cache import load_images
from busi_tune.data.pixels import read_image, read_mask

BENIGN = "benign/benign (1).png"


@pytest.fixture
def config(busi_root: Path, tmp_path: Path) -> DataConfig:
    return DataConfig(root=str(busi_root), image_size=16, cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were decoded, as they are."""
    names: list[str] = []
    decode = store._decode

    def record(sample, *how):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
        names.append(sample.name)
        return decode(sample, *how)

    monkeypatch.setattr(store, "_decode", record)
    return names


def refuse(*_arguments: object) -> None:
    raise AssertionError("must not be called")


def arrays_of(config: DataConfig) -> list[Path]:
    assert config.cache_dir
    return sorted(Path(config.cache_dir).glob("*/data/*"))


def test_images_are_stretched_and_masks_kept_at_both_sizes(
    phantom_root: Path, tmp_path: Path
) -> None:
    images = load_images(DataConfig(root=str(phantom_root), image_size=48, cache_dir=str(tmp_path)))
    samples = find_samples(phantom_root)
    assert images.names == tuple(sample.name for sample in samples)
    assert images.labels == tuple(sample.label for sample in samples)
    assert images.images.shape == images.masks.shape == (len(images), 48, 48)
    assert images.images.dtype == images.masks.dtype == np.uint8
    assert set(np.unique(images.masks)) == {0, 1}
    for index, sample in enumerate(samples):
        image, mask = read_image(sample.image_path), read_mask(sample.mask_paths)
        assert tuple(images.sizes[index]) == mask.shape
        assert np.array_equal(images.original_mask(index), mask)
        assert abs(images.images[index].mean() - image.mean()) < 2
        assert abs(images.masks[index].mean() - mask.mean()) < 0.01


def test_letterboxed_images_keep_their_proportions_and_a_cache_of_their_own(
    config: DataConfig, busi_root: Path
) -> None:
    stretched, boxed = load_images(config), load_images(replace(config, resize="letterbox"))
    assert (stretched.resize, boxed.resize) == ("stretch", "letterbox")
    assert boxed.data_hash == stretched.data_hash
    for index, sample in enumerate(find_samples(busi_root)):
        # 24 x 32 pixels become 12 x 16.
        assert boxed.box(index) == (slice(2, 14), slice(0, 16))
        assert not boxed.images[index][[0, 1, 14, 15]].any()
        assert not boxed.masks[index][[0, 1, 14, 15]].any()
        image, mask = read_image(sample.image_path), read_mask(sample.mask_paths)
        assert abs(boxed.content(index).mean() - image.mean()) < 2
        assert boxed.masks[index][2:14].mean() == pytest.approx(mask.mean(), abs=0.03)
        assert stretched.content(index).shape == (16, 16)
        assert np.array_equal(boxed.original_mask(index), mask)
    again = load_images(replace(config, resize="letterbox"))
    assert np.array_equal(again.images, boxed.images)


def test_the_first_of_several_masks_is_kept_apart(config: DataConfig, busi_root: Path) -> None:
    second = np.zeros((24, 32), dtype=bool)
    second[18:22, 3:9] = True
    for name in ("benign/benign (1)", "malignant/malignant (2)"):
        Image.fromarray(second).save(busi_root / f"{name}_mask_1.png")
    for _start in ("cold", "warm"):
        images = load_images(config)
        assert [images.names[index] for index in images.several] == ["benign (1)", "malignant (2)"]
        for index, sample in enumerate(find_samples(busi_root)):
            first, union = images.first_mask(index), images.original_mask(index)
            assert np.array_equal(first, read_mask(sample.mask_paths[:1]))
            assert np.array_equal(union, first | second if index in (0, 3) else first)


def test_without_second_masks_every_first_mask_is_the_only_one(config: DataConfig) -> None:
    images = load_images(config)
    assert len(images.several) == len(images.packed_firsts) == 0
    for index in range(len(images)):
        assert np.array_equal(images.first_mask(index), images.original_mask(index))


def test_a_checkerboard_is_averaged_not_sampled(config: DataConfig, busi_root: Path) -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(busi_root / BENIGN)
    Image.fromarray(board > 300).save(busi_root / "benign" / "benign (1)_mask.png")
    image = load_images(config).images[0]
    assert 100 < image.min() <= image.max() < 155


def test_a_warm_start_decodes_and_checks_nothing(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = load_images(config)
    monkeypatch.setattr(cache, "check_folder", refuse)
    monkeypatch.setattr(store, "_decode", refuse)
    warm = load_images(config)
    assert warm.data_hash == cold.data_hash
    assert np.array_equal(warm.images, cold.images)
    assert np.array_equal(warm.packed_masks, cold.packed_masks)


def test_the_data_hash_is_of_names_and_contents_not_of_place_or_size(
    config: DataConfig, busi_root: Path
) -> None:
    before = load_images(config).data_hash
    config.image_size = 24
    assert load_images(config).data_hash == before
    moved = busi_root.rename(busi_root.with_name("moved"))
    config.root = str(moved)
    assert load_images(config).data_hash == before
    (moved / "benign" / "benign (2)_mask.png").rename(moved / "benign" / "benign (9)_mask.png")
    (moved / "benign" / "benign (2).png").rename(moved / "benign" / "benign (9).png")
    assert load_images(config).data_hash != before


@pytest.mark.parametrize("victim", [BENIGN, "benign/benign (1)_mask.png"])
def test_changed_data_is_decoded_again(
    config: DataConfig, busi_root: Path, decoded: list[str], victim: str
) -> None:
    before = load_images(config)
    Image.new("L", (32, 24)).save(busi_root / victim)
    after = load_images(config)
    assert len(decoded) == 12
    assert after.data_hash != before.data_hash
    assert not np.array_equal(after.images, before.images) or "mask" in victim


@pytest.mark.parametrize("name", ["images.npy", "meta.json", "offsets.npy", "checksums.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_cache_is_built_again(
    config: DataConfig,
    decoded: list[str],
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: str,
) -> None:
    whole = load_images(config)
    (path,) = (path for path in arrays_of(config) if path.name == name)
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes({"flip": flipped, "cut": content[:-5], "empty": b""}[damage])
    again = load_images(config)
    assert len(decoded) == 12
    assert "damaged" in caplog.text
    assert again.names == whole.names
    assert len(again.images) == 6


def test_a_build_that_was_cut_short_leaves_nothing_in_use(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(store, "_checksum", refuse)
        with pytest.raises(AssertionError):
            load_images(config)
    assert arrays_of(config) == []
    assert len(load_images(config)) == 6


def test_arrays_are_mapped_read_only_and_pickled_without_a_copy(config: DataConfig) -> None:
    images = load_images(config)
    assert not images.images.flags.writeable
    assert type(images.images) is np.ndarray
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(images, protocol=5, buffer_callback=buffers.append)
    assert sum(buffer.raw().nbytes for buffer in buffers) > 2 * images.images.nbytes


def test_every_error_of_a_folder_is_in_one_message(config: DataConfig, busi_root: Path) -> None:
    (busi_root / BENIGN).write_bytes(b"")
    (busi_root / "malignant" / "malignant (2)_mask.png").unlink()
    (busi_root / "unknown").mkdir()
    with pytest.raises(ValueError, match=r"3 errors; .* out with data\.skip_bad:") as caught:
        load_images(config)
    for part in ("benign (1).png: empty file", "malignant (2).png: image without", "unknown"):
        assert part in str(caught.value)


def test_skip_bad_leaves_out_and_says_how_many_each_time(
    config: DataConfig, busi_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (busi_root / BENIGN).write_bytes(b"")
    (busi_root / "malignant" / "malignant (2)_mask.png").unlink()
    (busi_root / "normal" / "normal (7)_mask.png").write_bytes(b"")
    config.skip_bad = True
    for _start in ("cold", "warm"):
        caplog.clear()
        images = load_images(config)
        assert images.names == ("benign (2)", "malignant (1)", "normal (1)", "normal (2)")
        assert "left out 2 of 6 images" in caplog.text
        assert "normal (7)_mask.png" in caplog.text
        assert len(images.images) == 4


def test_skip_bad_changes_nothing_about_a_good_folder(
    config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_images(config).data_hash
    config.skip_bad = True
    assert load_images(config).data_hash == before
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_skip_bad_does_not_excuse_the_folder_itself(config: DataConfig, busi_root: Path) -> None:
    (busi_root / "normal").rename(busi_root / "healthy")
    for skip_bad in (False, True):
        with pytest.raises(ValueError, match="2 errors; correct them:"):
            load_images(replace(config, skip_bad=skip_bad))
    config.skip_bad = True
    for path in busi_root.rglob("*_mask.png"):
        path.write_bytes(b"")
    (busi_root / "healthy").rename(busi_root / "normal")
    with pytest.raises(ValueError, match="6 errors; correct them:"):
        load_images(config)


def test_warnings_are_counted(
    config: DataConfig, busi_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("1", (32, 24)).save(busi_root / "benign" / "benign (1)_mask.png")
    with caplog.at_level(logging.WARNING):
        load_images(config)
    assert "1 warnings" in caplog.text


def test_classes_and_groups_are_the_configurations(
    config: DataConfig, busi_root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    rows = "".join(f"{sample.name},g{sample.name[-2]}\n" for sample in find_samples(busi_root))
    (tmp_path / "groups.csv").write_text("image,group\n" + rows)
    config.classes = ["benign", "normal"]
    assert load_images(config).groups == load_images(config).names
    config.groups = str(tmp_path / "groups.csv")
    images = load_images(config)
    assert images.labels == ("benign", "benign", "normal", "normal")
    assert images.groups == ("g1", "g2", "g1", "g2")
    assert len(decoded) == 4


def test_groups_need_not_name_images_that_are_left_out(
    config: DataConfig, busi_root: Path, tmp_path: Path
) -> None:
    (busi_root / BENIGN).write_bytes(b"")
    kept = [sample.name for sample in find_samples(busi_root) if sample.name != "benign (1)"]
    (tmp_path / "groups.csv").write_text("image,group\n" + "".join(f"{n},1\n" for n in kept))
    config.skip_bad, config.groups = True, str(tmp_path / "groups.csv")
    assert set(load_images(config).groups) == {"1"}


def test_without_a_root_the_phantom_set_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSI_TUNE_CACHE", str(tmp_path))
    config = DataConfig(image_size=16, phantom_images=5)
    images = load_images(config)
    assert (len(images), {*images.labels}) == (5, {"benign", "malignant", "normal"})
    monkeypatch.setattr(cache.phantom, "write_phantom", refuse)
    assert load_images(config).data_hash == images.data_hash


def test_progress_goes_through_check_decoding_and_near_duplicates(config: DataConfig) -> None:
    seen: list[tuple[str, int, int]] = []
    load_images(config, progress=lambda *state: seen.append(state))
    assert list(dict.fromkeys(phase for phase, *_ in seen))[:3] == ["check", "decode", "features"]
    counts = [(phase, done, 6) for phase in ("check", "decode") for done in range(1, 7)]
    assert seen[: len(counts)] == counts


def test_a_size_without_sense_is_refused(config: DataConfig) -> None:
    config.image_size = 0
    with pytest.raises(ValueError, match=r"data\.image_size must be at least 8 pixels, got 0"):
        load_images(config)
