"""Processes as the ranks of one training, against one process; started once for all tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import distributed, multiprocessing, nn

from busi_tune.config import Config
from busi_tune.models import ARCHITECTURES
from busi_tune.training.checkpoint import load_checkpoint
from busi_tune.training.loop import fit
from busi_tune.training.ranks import agree, average_buffers, share, sum_over_ranks
from tests.training.small_training import (
    CPU,
    NETWORKS,
    SPLIT,
    Greedy,
    Recorder,
    make_config,
    make_images,
    without_clock,
)

pytestmark = pytest.mark.usefixtures("networks", "one_thread")

EXACT = {"model__architecture": "plain", "optimizer__name": "sgd", "training__epochs": 2}
CONFIGS = {
    "even": make_config(**EXACT, training__batch_size=5),
    # 10 images in batches of 3, 3, 2, 2 leave the ranks unequal shares.
    "uneven": make_config(**EXACT, training__batch_size=3),
    # The second rank never has an image of its own.
    "single": make_config(**EXACT, training__batch_size=1, training__evaluation_batch_size=1),
    "noisy": make_config(),
}
GREEDY = make_config(
    **EXACT | {"model__architecture": "greedy"},
    training__batch_size=5,
    training__evaluation_batch_size=2,
)


def run_rank(rank: int, folder: Path, num_ranks: int, names: list[str]) -> None:
    torch.set_num_threads(1)
    ARCHITECTURES.update(NETWORKS)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=num_ranks
    )
    for name in names:
        outcome = SCENARIOS[name](rank, folder / name)
        (folder / f"{name}-{rank}.json").write_text(json.dumps(outcome))
    distributed.destroy_process_group()


def train(config: Config) -> Callable[[int, Path], dict[str, Any]]:
    def scenario(rank: int, folder: Path) -> dict[str, Any]:
        # Only the first rank is shown the folder, as on machines without a shared disk.
        own = folder if rank == 0 else folder / "not-shared"
        return vars(fit(config, make_images(), SPLIT, own))

    return scenario


def stop(rank: int, folder: Path) -> dict[str, Any]:
    recorder = Recorder(folder, stop_at=2 if rank == 0 else 1)
    result = vars(fit(CONFIGS["noisy"], make_images(), SPLIT, folder, recorder))
    return result | {"heard": recorder.numbers()}


def resume(rank: int, folder: Path) -> dict[str, Any]:
    recorder = Recorder(folder, break_at=2)
    try:
        fit(CONFIGS["noisy"], make_images(), SPLIT, folder, recorder)
    except KeyboardInterrupt:
        distributed.barrier()
    return vars(fit(CONFIGS["noisy"], make_images(), SPLIT, folder))


def short_of_memory(rank: int, folder: Path) -> dict[str, Any]:
    # The first rank's share is of 3 images, the second's of 2, and only the second has to split.
    ARCHITECTURES["greedy"] = lambda _: Greedy(limit=3 if rank == 0 else 1)
    return vars(fit(GREEDY, make_images(), SPLIT, folder if rank == 0 else folder / "not-shared"))


def exchange(rank: int, folder: Path) -> dict[str, Any]:
    norm = nn.BatchNorm2d(2)
    norm.running_mean.fill_(rank)
    average_buffers(norm)
    return {
        "running_mean": norm.running_mean.tolist(),
        "share": share(torch.arange(5)).tolist(),
        "sum": sum_over_ranks(torch.tensor([1.0, rank])).tolist(),
        "agreed": agree(f"rank {rank}"),
    }


SCENARIOS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    **{name: train(config) for name, config in CONFIGS.items()},
    "stop": stop,
    "resume": resume,
    "memory": short_of_memory,
    "exchange": exchange,
}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(run_rank, (folder, 2, list(SCENARIOS)), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def three_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    multiprocessing.spawn(run_rank, (folder, 3, list(CONFIGS)[:3]), nprocs=3)
    return folder


def outcomes(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(folder / "best.ckpt", CPU)["model"]
    return state


@pytest.mark.parametrize("several", ["two_ranks", "three_ranks"])
@pytest.mark.parametrize("name", ["even", "uneven", "single"])
def test_ranks_train_as_one_process_without_batch_statistics(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, several: str
) -> None:
    ranks = request.getfixturevalue(several) / name
    fit(CONFIGS[name], make_images(), SPLIT, tmp_path)
    alone, together = weights(tmp_path), weights(ranks)
    for weight in alone:
        torch.testing.assert_close(together[weight], alone[weight])
    tables = [pd.read_csv(folder / "epochs.csv") for folder in (tmp_path, ranks)]
    clock = ["seconds", "images_per_second"]
    pd.testing.assert_frame_equal(*(table.drop(columns=clock) for table in tables), rtol=1e-5)


@pytest.mark.parametrize("name", [*CONFIGS, "stop", "resume", "memory"])
def test_ranks_come_to_the_same_result_and_one_of_them_writes_it(
    two_ranks: Path, name: str
) -> None:
    first, second = outcomes(two_ranks, name)
    assert without_clock(first) == without_clock(second)
    assert first["num_workers"] == 2
    assert json.loads((two_ranks / name / "result.json").read_text())["epochs"] == first["epochs"]
    assert not (two_ranks / name / "not-shared").exists()


def test_a_rank_short_of_memory_splits_its_share_and_the_others_agree_after_the_epoch(
    two_ranks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "greedy", lambda _: Greedy(limit=5))
    fit(GREEDY, make_images(), SPLIT, tmp_path)
    alone, together = weights(tmp_path), weights(two_ranks / "memory")
    for weight in alone:
        torch.testing.assert_close(together[weight], alone[weight])
    assert [outcome["micro_batches"] for outcome in outcomes(two_ranks, "memory")] == [2, 2]


def test_first_rank_decides_on_a_stop(two_ranks: Path) -> None:
    for outcome in outcomes(two_ranks, "stop"):
        assert (outcome["status"], outcome["epochs"]) == ("pruned", 2)
        assert [row["epoch"] for row in outcome["heard"]] == [1, 2]


def test_resumed_ranks_end_as_unbroken_ones(two_ranks: Path) -> None:
    whole, resumed = weights(two_ranks / "noisy"), weights(two_ranks / "resume")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_ranks_share_sum_and_agree(two_ranks: Path) -> None:
    first, second = outcomes(two_ranks, "exchange")
    assert (first["share"], second["share"]) == ([0, 1, 2], [3, 4])
    assert first["sum"] == second["sum"] == [2.0, 1.0]
    assert first["running_mean"] == second["running_mean"] == [0.5, 0.5]
    assert first["agreed"] == second["agreed"] == "rank 0"
