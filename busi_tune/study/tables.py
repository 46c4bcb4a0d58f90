"""trials.csv, a view of the study."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState

from busi_tune import run_directory
from busi_tune.run_directory import write_atomic
from busi_tune.search_space import Dimension

OUTCOME_ATTRIBUTES = (
    "epochs", "best_epoch", "seconds", "num_parameters", "milliseconds_per_image", "num_workers",
    "compiled", "micro_batches",
)  # fmt: skip

_REST = 19  # times what writing took


def trials_table(study: optuna.Study, space: Sequence[Dimension]) -> pd.DataFrame:
    """Return a row per trial: state, first objective, cost and the settings it tried."""
    names = [dimension.name for dimension in space if not dimension.is_constant]
    rows = []
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        settings = attributes.get("settings", {})
        rows.append(
            {"trial": trial.number, "key": " ".join(attributes.get("keys", []))}
            | {"state": trial.state.name}
            | {"value": trial.values[0] if trial.state == TrialState.COMPLETE else None}
            | {name: attributes.get(name) for name in OUTCOME_ATTRIBUTES}
            | {"reason": attributes.get("reason", "")}
            | {name: settings.get(name) for name in names}
        )
    columns = ["trial", "key", "state", "value", *OUTCOME_ATTRIBUTES, "reason", *names]
    return pd.DataFrame(rows, columns=columns)


class TrialsExport:
    """Writes trials.csv, which takes longer the more trials there are.

    While trials end it takes a twentieth of the time at most: a row may come with the next trial's.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Sequence[Dimension],
        run_dir: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._space = space
        self._path = run_dir / run_directory.TRIALS
        self._clock = clock
        self._due = -math.inf

    def write(self) -> None:
        """Write all trials."""
        began = self._clock()
        write_atomic(self._path, trials_table(self._study, self._space).to_csv(index=False))
        ended = self._clock()
        self._due = ended + _REST * (ended - began)

    def write_if_due(self) -> None:
        """Write all trials, unless that was done a moment ago."""
        if self._clock() >= self._due:
            self.write()
