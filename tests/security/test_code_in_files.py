"""No file that a user gives or a run directory holds can bring code along that is run."""

import ast
import hashlib
import io
import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import busi_tune
from busi_tune.config import DataConfig
from busi_tune.data.cache import load_images
from busi_tune.flags import load_settings
from busi_tune.models.weights import load_encoder_weights
from busi_tune.prediction.networks import read_weights
from busi_tune.results.html.viewer import collect_pictures, describe_images
from busi_tune.results.read import read_run
from busi_tune.training.checkpoint import load_checkpoint
from tests.results.conftest import make_images, read_kfold, write_kfold_run

CPU = torch.device("cpu")
PACKAGE = Path(busi_tune.__file__).parent
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "eval", "exec", "os.system", "os.popen", "pd.read_pickle", "torch.jit.load", "torch.hub.load",
    "torch.package.PackageImporter", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "np.fromfile",
}  # fmt: skip
NEEDED = {
    "torch.load": ("weights_only", True),
    "Image.open": ("formats", None),  # other formats have decoders that start programs
}
FORBIDDEN_VALUES = {"allow_pickle": True, "weights_only": False, "shell": True}


def find_unsafe(source: str) -> Iterator[str]:
    """Name what a module imports or calls that could run a file's content."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else named
            yield from (m for m in modules if m.partition(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            yield from _find_unsafe_call(node)


def _find_unsafe_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if name in FORBIDDEN_CALLS:
        yield name
    if name in NEEDED:
        keyword, wanted = NEEDED[name]
        value = given.get(keyword)
        fits = isinstance(value, ast.Constant) and value.value is wanted
        if value is None or (wanted is not None and not fits):
            yield f"{name} without {keyword}"
    for keyword, value in given.items():
        # Anything but a constant could be it.
        safe = isinstance(value, ast.Constant) and value.value is not FORBIDDEN_VALUES.get(keyword)
        if keyword in FORBIDDEN_VALUES and not safe:
            yield f"{name}({keyword}={ast.unparse(value)})"


def test_no_module_reads_a_file_in_a_way_that_could_run_it() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    found = {str(path): unsafe for path in paths if (unsafe := [*find_unsafe(path.read_text())])}
    assert not found
    assert len(paths) > 100


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib.memory import x",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "yaml.load(text, Loader=Loader)",
        "Image.open(path)",
        "subprocess.run(text, shell=True)",
        "pd.read_pickle(path)",
        "eval(text)",
    ],
)
def test_the_walk_finds_what_it_looks_for(source: str) -> None:
    assert list(find_unsafe(source))


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, mmap_mode='r', allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "Image.open(path, formats=['PNG'])",
        "model.eval()",
    ],
)
def test_the_walk_leaves_the_safe_ways_alone(source: str) -> None:
    assert not list(find_unsafe(source))


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    """Code in disguise; the test fails if it was run."""
    planted = Attack(tmp_path / "it was run")
    yield planted
    assert not planted.mark.exists()


def test_the_attack_would_be_noticed(tmp_path: Path) -> None:
    planted = Attack(tmp_path / "it was run")
    pickle.loads(pickle.dumps(planted))
    assert planted.mark.exists()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def plain_array(attack: Attack) -> bytes:
    """A .npy file of an object, as np.save makes it."""
    buffer = io.BytesIO()
    objects = np.empty(1, dtype=object)
    objects[0] = attack
    np.save(buffer, objects, allow_pickle=True)
    return buffer.getvalue()


DISGUISES: dict[str, Callable[[Attack], bytes]] = {
    "a bare pickle": lambda attack: pickle.dumps(attack),
    "torch's format": lambda attack: saved({"config": attack, "model": {"weight": attack}}),
    "torch's old format": lambda attack: (
        pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(attack)
    ),
    "an array": plain_array,
}
disguised = pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)


@disguised
def test_a_checkpoint_with_a_checksum_that_fits_is_refused(
    disguise: Callable[[Attack], bytes], attack: Attack, tmp_path: Path
) -> None:
    content, path = disguise(attack), tmp_path / "best.ckpt"
    title = f"busi_tune checkpoint {hashlib.sha256(content).hexdigest()}\n"
    path.write_bytes(title.encode() + content)
    for read in (load_checkpoint, read_weights):
        with pytest.raises(ValueError, match=r"best\.ckpt"):
            read(path, CPU)


@pytest.mark.parametrize("content", [[1], {"model": {}}, {"config": "text", "model": {}}])
def test_a_checkpoint_of_other_content_is_refused(content: Any, tmp_path: Path) -> None:
    data, path = saved(content), tmp_path / "best.ckpt"
    title = f"busi_tune checkpoint {hashlib.sha256(data).hexdigest()}\n"
    path.write_bytes(title.encode() + data)
    with pytest.raises(ValueError, match=r"best\.ckpt.* must "):
        read_weights(path, CPU)


@disguised
@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_a_file_of_encoder_weights_is_refused(
    disguise: Callable[[Attack], bytes], ending: str, attack: Attack, tmp_path: Path
) -> None:
    path = tmp_path / f"encoder.{ending}"
    path.write_bytes(disguise(attack))
    with pytest.raises(ValueError, match=f"encoder.{ending}"):
        load_encoder_weights(nn.Linear(1, 1), "resnet18", str(path))


@disguised
def test_an_export_is_refused(
    disguise: Callable[[Attack], bytes], attack: Attack, tmp_path: Path
) -> None:
    path = tmp_path / "fold-0.safetensors"
    path.write_bytes(disguise(attack))
    with pytest.raises(ValueError, match=r"fold-0\.safetensors is damaged"):
        read_weights(path, CPU)


@disguised
def test_an_array_of_the_cache_is_made_again(
    disguise: Callable[[Attack], bytes],
    attack: Attack,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = tmp_path / "cache"
    config = DataConfig(phantom_images=6, image_size=8, groups="none", cache_dir=str(cache))
    before = load_images(config)
    (stored,) = cache.glob("*/data/images.npy")
    stored.unlink()  # what is mapped stays as it is
    stored.write_bytes(disguise(attack))
    checksums = stored.with_name("checksums.json")
    fitting = json.loads(checksums.read_text()) | {stored.name: zlib.crc32(stored.read_bytes())}
    checksums.write_text(json.dumps(fitting))
    assert np.array_equal(load_images(config).images, before.images)
    assert "is damaged and is built again" in caplog.text


def other_format(attack: Attack) -> bytes:
    return b"P5 2 2 255 " + bytes(4)


@pytest.mark.parametrize("disguise", [*DISGUISES.values(), other_format], ids=[*DISGUISES, "a PPM"])
def test_a_predicted_map_that_is_no_png_is_refused(
    disguise: Callable[[Attack], bytes], attack: Attack, tmp_path: Path
) -> None:
    images = make_images()
    run = read_kfold(write_kfold_run(tmp_path / "run", images, ("unet",), num_folds=2))
    rows = describe_images(run)
    assert collect_pictures(run, rows, images)
    path = run.folder / "predictions" / "unet" / f"{rows[0]['image']}.png"
    path.write_bytes(disguise(attack))
    with pytest.raises(OSError, match="cannot identify image file"):
        collect_pictures(run, rows, images)


CALL = '!!python/object/apply:os.mkdir ["{mark}"]'


def test_tags_of_yaml_call_nothing(attack: Attack, tmp_path: Path) -> None:
    text = CALL.format(mark=attack.mark)
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"seed: {text}\n")
    with pytest.raises(ValueError, match=r"cannot read settings from .*settings\.yaml"):
        load_settings(settings)
    run = write_kfold_run(tmp_path / "run", make_images(), ("unet",), num_folds=2)
    (run / "config.yaml").write_text(f"seed: {text}\n")
    with pytest.raises(ValueError, match=r"cannot read settings from .*config\.yaml"):
        read_run(run)
    export = tmp_path / "fold-0.safetensors"
    save_file({"weight": torch.zeros(1)}, export, {"config": f"seed: {text}\n"})
    with pytest.raises(ValueError, match=r"fold-0\.safetensors: its config is no YAML"):
        read_weights(export, CPU)
