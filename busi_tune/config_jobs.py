"""Settings of what is done with trainings: searched, cross-validated, placed on a cluster."""

from dataclasses import dataclass, field
from typing import Any, Literal


def default_space() -> dict[str, Any]:
    """Return the space of a search that names none: networks that need no weights."""
    return {
        "model.architecture": ["unet", "report_cnn"],
        "model.base_width": {"choices": [16, 32, 64], "when": {"model.architecture": ["unet"]}},
        "model.dropout": {"low": 0.0, "high": 0.5, "when": {"model.architecture": ["report_cnn"]}},
        "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "loss.bce": {"low": 0.1, "high": 2.0},
        "augment.crop_scale": {"low": 0.08, "high": 0.9},
    }


@dataclass
class SearchConfig:
    """The search over configurations."""

    num_trials: int = 40
    """Trials in all."""
    budget: str = ""
    """Wall-clock time over all starts after which no trial is started and running ones end with
    their epoch: 2h, 90m, 45s, 1h30m. Refits come after it; trials that it stopped stay stopped when
    it is raised later. Empty: no limit."""
    target: float | None = None
    """Value of the first objective at which no further trial is started."""
    space: dict[str, Any] = field(default_factory=default_space)
    """What is searched: a dotted field and its range {low, high, log, step}, its choices (a list)
    or a constant; {when: {field: [values]}} makes it conditional."""
    start: list[str] = field(default_factory=lambda: ["report"])
    """Configurations to try first: YAML files, and report for those of the report's models that
    lie in the space and whose weights are at hand. A list of files alone leaves the report's out:
    report,best.yaml has both. Neither a pruner nor the race over inner folds stops them."""
    objectives: list[str] = field(default_factory=lambda: ["monitor"])
    """What is optimised: monitor (training.monitor) and, as further objectives, parameters or
    milliseconds (per image, forward pass). Several give a Pareto front and need pruner none."""
    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    """How settings are proposed: TPE (multivariate, grouped, constant liar), a Gaussian process (of
    settings without conditions; those with conditions at random), NSGA-II (20 trials a
    generation) or at random."""
    pruner: Literal["halving", "hyperband", "median", "none"] = "halving"
    """How trials are stopped early."""
    rung_unit: Literal["epochs", "seconds"] = "epochs"
    """In what rungs are counted; seconds of training compare cheap and dear models fairly."""
    min_epochs: int = 3
    """Epochs before any trial is stopped; the first rung where rungs count epochs. Where
    most networks have learned nothing yet, it keeps the fastest to begin, not the best."""
    min_seconds: float = 30.0
    """The first rung where rungs count seconds."""
    reduction_factor: int = 3
    """Halving keeps the best 1 / factor at each rung."""
    inner_folds: int = 1
    """Folds of the development part that a trial trains on one by one; its value is their mean.
    After each, a trial that is unlikely to win is stopped. 1: a single validation part."""
    race_level: float = 0.05
    """Level of the one-sided paired t-test, over groups of images, by which a trial loses against
    the best so far after an inner fold. It only saves time and is no inference."""
    refit: int = 3
    """The best configurations that are trained again with fresh seeds; the winner is the best of
    them. 0: the best trial wins, and the closed test part is not looked at."""
    refit_seeds: int = 3
    """Fresh seeds, each with a validation part of its own, for each refitted configuration."""
    baselines: list[str] = field(default_factory=list)
    """Configurations refitted beside the winner and compared with it once on the closed test part:
    YAML files, and report for the report's models whose weights are at hand."""
    trackers: list[str] = field(default_factory=list)
    """Where epochs and trials are logged besides: tensorboard, mlflow (the extra trackers)."""


@dataclass
class KfoldConfig:
    """The cross-validation."""

    num_folds: int = 5
    """Folds of a repeat."""
    num_repeats: int = 1
    """Repeats; each draws its own folds and seed."""
    models: dict[str, Any] = field(default_factory=dict)
    """Models to compare, a name and the settings that differ; empty: this configuration alone."""
    search: str | dict[str, Any] = field(default_factory=dict)
    """A search inside the training set of every fold: a search configuration file (its model,
    training and search settings count) or these settings. The winner of each is trained and tested
    on its fold as the model nested_search. Empty: none."""


@dataclass
class ResourcesConfig:
    """What a training takes from the cluster."""

    num_workers: int = 1
    """Workers per training; several run under Ray Train, each a rank of the same training. Batch
    norm sees the share of a rank alone, see training.sync_batchnorm."""
    cpus_per_worker: float = 1.0
    """CPUs (and torch threads) of a worker."""
    gpus_per_worker: float | None = None
    """GPUs of a worker, fractions share one; default: 1 where the cluster has a GPU, else 0."""
    max_concurrent: int = 0
    """Most trainings at a time; 0: as many as fit."""
    max_failures: int = 2
    """How often a training whose worker died is tried again from its checkpoint."""
    wait_seconds: float = 300.0
    """How long to wait for the requested resources, or for a storage on s3:// that fails, before
    giving up; a place that may just be slow to start is given two minutes at least."""
