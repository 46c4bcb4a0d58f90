"""Where a training started."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from busi_tune.orchestration.starts import note_start

pytestmark = pytest.mark.ray


def test_ranks_that_start_together_write_one_table(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(note_start, [tmp_path] * 40, ["10.0.0.1"] * 40))
    starts = pd.read_csv(tmp_path / "starts.csv")
    assert len(starts) == 40
    assert pd.api.types.is_integer_dtype(starts["process"]), "a second header"
