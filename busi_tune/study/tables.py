"""trials.csv, a view of the study."""

from collections.abc import Sequence
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


def export_trials(study: optuna.Study, space: Sequence[Dimension], run_dir: Path) -> None:
    """Write trials.csv."""
    text = trials_table(study, space).to_csv(index=False)
    write_atomic(run_dir / run_directory.TRIALS, text)
