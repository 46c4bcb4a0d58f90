import hashlib
from pathlib import Path

import pytest
import torch

from busi_tune.training.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
STATE = {"epoch": 3, "rows": [{"val_dice": 0.5}], "model": {"weight": torch.arange(200.0)}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "last.ckpt", STATE)
    return tmp_path / "last.ckpt"


def test_state_comes_back_as_it_was_saved(path: Path) -> None:
    state = load_checkpoint(path, CPU)
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
    assert state["epoch"] == 3
    assert state["rows"] == STATE["rows"]


def test_checkpoint_replaces_the_one_before_and_leaves_nothing_else(path: Path) -> None:
    save_checkpoint(path, STATE | {"epoch": 4})
    assert load_checkpoint(path, CPU)["epoch"] == 4
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("length", [0, 5, 60, 86, 87, 300, -1])
def test_truncated_file_is_refused_by_name_and_with_a_remedy(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"last\.ckpt.*damaged.*delete it"):
        load_checkpoint(path, CPU)


@pytest.mark.parametrize("position", [0, 30, 100, -1])
def test_flipped_bit_is_noticed(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt.*damaged.*delete it"):
        load_checkpoint(path, CPU)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


def test_code_in_a_checkpoint_is_refused_and_not_run(path: Path) -> None:
    torch.save({"attack": Attack()}, path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    path.write_bytes(f"busi_tune checkpoint {digest}\n".encode() + content)
    with pytest.raises(ValueError, match=r"last\.ckpt is no checkpoint of data alone.*delete it"):
        load_checkpoint(path, CPU)
