"""Where a training started."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from busi_tune.orchestration.starts import find_last_addresses, note_start

pytestmark = pytest.mark.ray


def test_ranks_that_start_together_write_one_table(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(note_start, [tmp_path] * 40))
    starts = pd.read_csv(tmp_path / "starts.csv")
    assert len(starts) == 40
    assert pd.api.types.is_integer_dtype(starts["process"]), "a second header"


def test_the_last_start_tells_where_a_training_was(tmp_path: Path) -> None:
    assert find_last_addresses(tmp_path, 1) == set()
    rows = {"address": ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"], "rank": [0, 1, 0, 1]}
    pd.DataFrame(rows).to_csv(tmp_path / "starts.csv", index=False)
    assert find_last_addresses(tmp_path, 1) == {"10.0.0.3"}
    assert find_last_addresses(tmp_path, 2) == {"10.0.0.2", "10.0.0.3"}
