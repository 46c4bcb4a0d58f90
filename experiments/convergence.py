"""How many trainings of a cross-validation had not converged, by the rule of today.

python experiments/convergence.py experiments/results/six-models

Counts from epochs.csv and folds.csv, whatever the rule was when the run was made; a line per model.
"""

import sys
from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.flags import load_settings
from busi_tune.settings import override
from busi_tune.training.history import is_converged


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        training = override(Config(), load_settings(folder / run_directory.CONFIG)).training
        identity = ["model", "repeat", "fold"]
        rows = pd.read_csv(folder / run_directory.EPOCHS).groupby(identity)
        folds = pd.read_csv(folder / run_directory.FOLDS)
        now = [
            is_converged(curve.to_dict("records"), training.monitor, training.patience)
            for curve in (rows.get_group(key) for key in folds[identity].itertuples(index=False))
        ]
        for model, each in folds.assign(now=now).groupby("model"):
            said, counted = ((~each[name].astype(bool)).sum() for name in ("converged", "now"))
            print(f"{folder.name} {model}: not converged {counted} of {len(each)}, then {said}")


if __name__ == "__main__":
    main()
