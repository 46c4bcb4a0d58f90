"""README's example of what a search costs has the numbers of the files that it names."""

from pathlib import Path

import yaml

from busi_tune.command_line import parse
from busi_tune.search import COMMAND
from busi_tune.study.starts import load_report_models

ROOT = Path(__file__).parents[2]


def test_the_example_is_worked_out_from_the_search_and_the_cluster() -> None:
    config = parse(COMMAND, ["--config", str(ROOT / "experiments" / "search.yaml")]).config
    search, limit = config.search, int(config.training.max_seconds / 60)
    assert search.baselines == ["report"], "the models counted below"
    again = (search.refit + len(load_report_models())) * search.refit_seeds
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    head = cluster["available_node_types"]["head"]["node_config"]
    disk = head["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
    workers, idle = cluster["max_workers"], cluster["idle_timeout_minutes"]

    gpu_hours = (search.num_trials * 5 + again * limit) / 60
    busy = gpu_hours / workers
    hours = round(busy + (10 + idle) / 60, 1)
    nodes, disks = hours * (workers * 0.5 + 0.23), (workers + 1) * disk * 0.1 * hours / 730
    readme = (ROOT / "README.md").read_text()
    for words in (
        f"the {search.num_trials} trials of `experiments/search.yaml` at a mean of 5 minutes",
        f"{limit} is their limit",
        f"then {again} trainings of {limit} minutes for refits and baselines",
        f"{search.num_trials} x 5 / 60 + {again} x {limit} / 60 = {gpu_hours:.1f} GPU hours",
        f"{busy:.1f} hours on {workers} GPUs that are never idle, {hours} with 10 minutes for the "
        f"start and {idle} at the end",
        f"{hours} x ({workers} x 0.50 + 0.23) = ${nodes:.2f}",
        f"{workers + 1} x {disk} x 0.10 x {hours} / 730 = ${disks:.2f} for the disks, "
        f"about ${nodes + disks:.0f}",
    ):
        assert words in readme
