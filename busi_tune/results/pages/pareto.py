"""The Pareto front of a search with several objectives: trials that no other beats in all."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from busi_tune import run_directory
from busi_tune.results.pages.tables import Table, write_csv, write_page
from busi_tune.results.read import SearchRun
from busi_tune.study.objectives import COSTS, MONITOR


def write_pareto(run: SearchRun) -> None:
    """Write the front as CSV and as a page; nothing of a search with one objective."""
    columns = objective_columns(run)
    if len(columns) < 2:
        return
    front = front_table(run)
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "pareto.csv", front)
    complete = (run.trials["state"] == "COMPLETE").sum()
    caption = (
        f"The trials of {complete} complete ones that no other one equals or beats in all of "
        f"{', '.join(map(str, front.columns[1 : 1 + len(columns)]))} and beats in one. They were "
        "chosen on the validation images and are no estimate for others; milliseconds depend on "
        "the machine and on what ran beside."
    )
    write_page(folder, "pareto", "Pareto front", [Table(caption, front)])


def objective_columns(run: SearchRun) -> list[str]:
    """Return the column of trials.csv for each objective."""
    return [{MONITOR: "value"}.get(name) or COSTS[name] for name in run.config.search.objectives]


def front_table(run: SearchRun) -> pd.DataFrame:
    """Return the trials on the front with objectives and settings, the best first one first."""
    columns = objective_columns(run)
    front = run.trials[is_on_front(run)].sort_values(
        columns, ascending=[_sign(run, column) < 0 for column in columns], kind="stable"
    )
    used = [name for name in run.settings if front[name].notna().any()]
    table = front[["trial", *columns, *used]].rename(columns={"value": run.monitor})
    return table.convert_dtypes()


def is_on_front(run: SearchRun) -> "pd.Series[bool]":
    """Tell for each trial whether it is complete and not dominated."""
    columns = objective_columns(run)
    complete = (run.trials["state"] == "COMPLETE") & run.trials[columns].notna().all(axis=1)
    signs = [_sign(run, column) for column in columns]
    gains = run.trials.loc[complete, columns].to_numpy(dtype=np.float64) * signs
    found = pd.Series(False, run.trials.index)
    found[complete] = not_dominated(gains)
    return found


def not_dominated(gains: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which rows no other row equals in all columns and exceeds in one.

    Args:
        gains: (N, K) objectives, all to be large.
    """
    as_good = (gains[:, None] >= gains[None]).all(axis=-1)
    better = (gains[:, None] > gains[None]).any(axis=-1)
    dominated = np.asarray((as_good & better).any(axis=0), dtype=bool)
    return ~dominated


def _sign(run: SearchRun, column: str) -> int:
    return 1 if column == "value" and run.maximises else -1
