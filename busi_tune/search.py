"""Search over models and settings: python -m busi_tune.search."""

import sys

from busi_tune.command_line import Command, Options, run_command

COMMAND = Command(
    "search",
    """Search for the best model and settings on one development part of the images.

A tenth of the images, whole groups of them, stays closed for a later, single test. With no data
given, the packaged demo runs on synthetic images. Examples:
  python -m busi_tune.search
  python -m busi_tune.search --config experiments/search.yaml --data.root BUSI
  python -m busi_tune.search --resume runs/search-20260101-120000 --search.num_trials 80

Exit codes: 0 done, 1 some trials failed, 2 bad input, 3 the cluster failed or the
disk is full, 130 interrupted.""",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command(COMMAND, run, arguments)


def run(options: Options) -> int:
    """Run the job; its imports would make `--help` and refusals wait."""
    from busi_tune.jobs.search import run_search

    return run_search(options)


if __name__ == "__main__":
    sys.exit(main())
