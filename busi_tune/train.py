"""One training, hold-out or on every image, by default without Ray: python -m busi_tune.train."""

import sys

from busi_tune.command_line import Command, Options, run_command

COMMAND = Command(
    "train",
    """Train one configuration on a hold-out split (8:1:1) and test it once, or on every image.

With one worker this needs no Ray. With no data given, it trains on synthetic images.
--data.split all gives the final model: every image trains for the whole of the epochs, the last
is kept, and nothing is scored. Examples:
  python -m busi_tune.train --data.root BUSI --model.architecture report_cnn
  python -m busi_tune.train --config runs/search-1/best.yaml --data.root BUSI
  python -m busi_tune.train --config runs/search-1/best.yaml --data.root BUSI --data.split all
  python -m busi_tune.train --data.root BUSI --resources.num_workers 2

Exit codes: 0 done, 1 the training failed, 2 bad input, 3 the cluster failed or the
disk is full, 130 interrupted.""",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command(COMMAND, run, arguments)


def run(options: Options) -> int:
    """Run the job; its imports would make `--help` and refusals wait."""
    from busi_tune.jobs.train import run_train

    return run_train(options)


if __name__ == "__main__":
    sys.exit(main())
