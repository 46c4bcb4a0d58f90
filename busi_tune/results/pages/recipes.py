"""What the models of a run are and how they were trained, in sentences."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from busi_tune.kfold_models import NESTED
from busi_tune.results.pages.augmentation import list_changes
from busi_tune.results.read import KfoldRun

Setting = Callable[[str], Any]
"""A setting of one model, by its dotted name."""

NETWORKS = {
    "report_cnn": "the course report's convolutional network (dropout {dropout:g})",
    "unet": "the classic U-Net with batch normalisation, {base_width} channels at its first level",
    "attention_unet": "the Attention U-Net, additive gates on the skips of a classic U-Net with "
    "batch normalisation, {base_width} channels at its first level",
}
DECODERS = {
    "smp_unet": "U-Net", "unetplusplus": "U-Net++", "fpn": "FPN", "linknet": "LinkNet",
    "manet": "MA-Net", "pan": "PAN", "pspnet": "PSPNet", "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3+", "upernet": "UPerNet", "segformer": "SegFormer", "dpt": "DPT",
    "fcn": "FCN",
}  # fmt: skip
LOSSES = {
    "bce": "binary cross-entropy",
    "dice": "the soft Dice loss of each image",
    "batch_dice": "the soft Dice loss pooled over the batch",
    "focal": "the focal loss (gamma {focal_gamma:g})",
    "tversky": "the Tversky loss of each image (alpha {tversky_alpha:g} for false positives)",
    "jaccard": "the soft Jaccard loss of each image",
    "lovasz": "the Lovasz hinge of each image",
    "boundary": "the boundary loss (distances in diagonals of the image)",
}
OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "rmsprop": "RMSprop (momentum {momentum:g})",
    "sgd": "stochastic gradient descent (Nesterov momentum {momentum:g})",
}
SCHEDULES = {
    "constant": "stayed constant",
    "cosine": "fell to zero along a cosine",
    "polynomial": "fell to zero as a polynomial (power 0.9)",
    "onecycle": "rose along a cosine from 1/25 of that in {rise} and fell to zero along another",
    "plateau": "fell to a third whenever {plateau_patience} epochs had brought no improvement",
}
SAMPLERS = {
    "tpe": "TPE",
    "gp": "a Gaussian process",
    "nsga2": "NSGA-II",
    "random": "random draws",
}
MONITORS = {
    "val_dice": "the highest mean Dice over all validation images, normal ones included",
    "val_dice_tumour": "the highest mean Dice over the validation images with a lesion",
    "val_loss": "the lowest validation loss",
}


def own_models(run: KfoldRun) -> list[str]:
    """The models that the configuration describes; others were searched for or brought along."""
    configured = run.config.kfold.models or {run.config.model.architecture: {}}
    return [m for m in run.trained if m in configured and m not in searched_models(run)]


def searched_models(run: KfoldRun) -> list[str]:
    """Winners of nested searches of several runs: what each fold found is in those runs alone."""
    models = run.config.kfold.models
    return [model for model in run.trained if None in models.get(model, {}).values()]


def describe_models(run: KfoldRun) -> str:
    """Name each model with its network, weights and size."""
    parts = []
    for model in own_models(run):
        size = int(run.folds.loc[run.folds["model"] == model, "num_parameters"].iloc[0])
        network = _network(partial(run.setting, model))
        parts.append(f"`{model}`, {network}, {size:,} parameters")
    return join(parts, "; ")


def describe_preparation(run: KfoldRun) -> str:
    """Say what is done to the images before and during training."""
    size = run.config.data.image_size
    grey = _for_models(run, _channels)
    way = {
        "stretch": "stretched to",
        "letterbox": "brought in their own proportions, with black borders, to",
    }[run.config.data.resize]
    return (
        f"Images were read as grey, {way} {size} by {size} pixels (bilinear) and scaled to "
        f"[0, 1]{f'; {grey}' if grey else ''}. {_sentence(_for_models(run, _augmentation))}"
    )


def describe_training(run: KfoldRun) -> str:
    """Say how long and by what means the networks were trained, and which epoch was kept."""
    return " ".join([
        f"Networks were trained for {_for_models(run, _length)}, "
        f"in batches of {_for_models(run, _batch)}, with {_for_models(run, _optimizer)}; "
        f"the learning rate {_for_models(run, _schedule)}.",
        *_optional("The encoder's learning rate was", _for_models(run, _encoder_rate)),
        f"The loss was {_for_models(run, _loss)}.",
        *_optional("Besides,", _for_models(run, _extras)),
        _kept(run),
    ])  # fmt: skip


def _kept(run: KfoldRun) -> str:
    """Say which epoch's weights were kept."""
    if "best_value" in run.folds and run.folds["best_value"].isna().all():
        return "Every image trained, so the weights of the last epoch were kept."
    return (
        f"Of each training the weights of the epoch with {_for_models(run, _monitor)}, at training "
        "size, were kept."
    )


def describe_search(run: KfoldRun) -> str:
    """Say how the model of a nested search came about."""
    settings = partial(run.setting, NESTED)
    sampler = SAMPLERS[settings("search.sampler")]
    pruner = settings("search.pruner")
    stopped = f", poor ones stopped early ({pruner})" if pruner != "none" else ""
    return (
        f"`{NESTED}` is a nested cross-validation: inside the training set of each fold "
        f"{settings('search.num_trials')} trials by {sampler}{stopped} searched "
        f"{quote_names(settings('search.space'))}; the best on the validation part was trained "
        "and tested on the fold, which its search had not seen."
    )


def join(parts: Sequence[str], separator: str = ", ") -> str:
    """Join parts of a sentence: a, b and c; nothing where there are none."""
    *first, last = parts or [""]
    return f"{separator.join(first)}{';' if ';' in separator else ''} and {last}" if first else last


def quote_names(names: Iterable[str]) -> str:
    """Join names in code style."""
    return join([f"`{name}`" for name in names])


def _for_models(run: KfoldRun, describe: Callable[[Setting], str]) -> str:
    """Describe a matter once where all models agree, else say which models each case is true of."""
    cases: dict[str, list[str]] = {}
    for model in own_models(run):
        cases.setdefault(describe(partial(run.setting, model)), []).append(model)
    if len(cases) == 1:
        return next(iter(cases))
    return join([f"{case} ({quote_names(models)})" for case, models in cases.items() if case])


def _optional(beginning: str, clause: str) -> list[str]:
    return [f"{beginning} {clause}."] if clause else []


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _network(setting: Setting) -> str:
    architecture = setting("model.architecture")
    if architecture in NETWORKS:
        sizes = {name: setting(f"model.{name}") for name in ("dropout", "base_width")}
        network = NETWORKS[architecture].format(**sizes)
        return f"{network}{_decoder_options(setting)}, trained from scratch"
    encoder = str(setting("model.encoder")).removeprefix("tu-")
    network = f"a {DECODERS[architecture]} decoder on the encoder {encoder}"
    return f"{network}{_decoder_options(setting)}, {_weights(setting)}"


def _decoder_options(setting: Setting) -> str:
    options = []
    if setting("model.decoder_attention") == "scse":
        options.append("concurrent spatial and channel squeeze and excitation")
    if dropout := setting("model.decoder_dropout"):
        options.append(f"dropout ({dropout:g}) before its last convolution")
    if setting("model.deep_supervision"):
        options.append("deep supervision of its coarser levels")
    return f" with {join(options)}" if options else ""


def _weights(setting: Setting) -> str:
    weights = str(setting("model.encoder_weights"))
    if weights == "none":
        return "trained from scratch"
    if weights == "imagenet":
        return "pre-trained on ImageNet"
    if weights.startswith("package:"):
        return f"pre-trained (weights of the package {weights.removeprefix('package:')})"
    return f"starting from the weights of {Path(weights).name}"


def _channels(setting: Setting) -> str:
    if setting("model.architecture") in NETWORKS or setting("model.encoder_weights") == "none":
        return ""
    return "grey was repeated over three channels and normalised as the encoder expects"


def _augmentation(setting: Setting) -> str:
    changes = list_changes(setting)
    if not changes:
        return "no augmentation was used"
    return f"training images were augmented anew in each epoch: {join(changes)}"


def _length(setting: Setting) -> str:
    epochs, patience = setting("training.epochs"), setting("training.patience")
    seconds = setting("training.max_seconds")
    length = f"{epochs} epochs"
    if seconds:
        length = (
            f"as many epochs as fit into {seconds:g} seconds, at most {epochs}, the schedule "
            "fitted to them"
        )
    if not patience:
        return length
    most = "" if seconds else "at most "
    return f"{most}{length}, ended after {patience} without improvement"


def _batch(setting: Setting) -> str:
    batch, accumulate = setting("training.batch_size"), setting("training.accumulate")
    return f"{batch} images{f', {accumulate} of them to a step' if accumulate > 1 else ''}"


def _optimizer(setting: Setting) -> str:
    name, decay = setting("optimizer.name"), setting("optimizer.weight_decay")
    optimizer = OPTIMIZERS[name].format(momentum=setting("optimizer.momentum"))
    weight_decay = f" and weight decay {decay:g}" if decay else ""
    rate = f"{setting('optimizer.lr'):g}"
    return f"{optimizer} at a learning rate of {rate}{weight_decay}"


def _schedule(setting: Setting) -> str:
    name, warmup = setting("optimizer.schedule"), setting("optimizer.warmup_epochs")
    epochs = f"{warmup:g} epoch{'s' * (warmup != 1)}"
    course = SCHEDULES[name].format(
        rise=f"the first {epochs}" if warmup else "the first 30 % of the steps",
        plateau_patience=setting("optimizer.plateau_patience"),
    )
    linear = warmup and name != "onecycle"
    return f"{course} after a linear warm-up of {epochs}" if linear else course


def _encoder_rate(setting: Setting) -> str:
    factor = setting("optimizer.encoder_lr_factor")
    has_encoder = setting("model.architecture") not in NETWORKS
    return f"{factor:g} times that" if has_encoder and factor != 1 else ""


def _loss(setting: Setting) -> str:
    weights = {name: setting(f"loss.{name}") for name in LOSSES}
    parameters = {name: setting(f"loss.{name}") for name in ("focal_gamma", "tversky_alpha")}
    terms = {LOSSES[name].format(**parameters): w for name, w in weights.items() if w}
    if set(terms.values()) == {1.0}:
        listed = list(terms)
    else:
        listed = [f"{weight:g} times {loss}" for loss, weight in terms.items()]
    return f"the sum of {join(listed)}" if len(listed) > 1 else listed[0]


def _extras(setting: Setting) -> str:
    extras = []
    if norm := setting("training.clip_norm"):
        extras.append(f"gradients were clipped to a norm of {norm:g}")
    if decay := setting("training.ema_decay"):
        extras.append(f"an exponential moving average of the weights (decay {decay:g}) was used")
    if setting("training.precision") == "bf16":
        extras.append("the forward pass ran in bfloat16")
    return join(extras)


def _monitor(setting: Setting) -> str:
    monitor: str = setting("training.monitor")
    return MONITORS[monitor]
