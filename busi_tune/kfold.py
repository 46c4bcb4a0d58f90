"""Cross-validation of one or several models: python -m busi_tune.kfold."""

import sys

from busi_tune.command_line import Command, Options, run_command

COMMAND = Command(
    "kfold",
    """Cross-validate models on the same folds and write tables with intervals, curves and overlays.

With no data given, the packaged demo runs on synthetic images. Examples:
  python -m busi_tune.kfold
  python -m busi_tune.kfold --config experiments/kfold.yaml --data.root BUSI
  python -m busi_tune.kfold --data.root BUSI --models unet.yaml runs/search-1/best.yaml
  python -m busi_tune.kfold --data.root BUSI --kfold.search experiments/search.yaml
  python -m busi_tune.kfold --resume runs/kfold-20260101-120000

Exit codes: 0 done, 1 some folds failed, 2 bad input, 3 the cluster failed or the
disk is full, 130 interrupted.""",
    compares_models=True,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command(COMMAND, run, arguments)


def run(options: Options) -> int:
    """Run the job; its imports would make `--help` and refusals wait."""
    from busi_tune.jobs.kfold import run_kfold

    return run_kfold(options)


if __name__ == "__main__":
    sys.exit(main())
