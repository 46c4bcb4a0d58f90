"""One pass over the training part, and one over the validation part.

Nothing here waits for the device within a pass: losses and counts stay there and are read once.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from busi_tune.config import Config
from busi_tune.data.augment import augment, draw_parameters
from busi_tune.data.batches import DeviceImages, epoch_order, split_batches
from busi_tune.evaluation.counts import METRICS, compute_metrics, count_pixels
from busi_tune.evaluation.evaluate import is_lesion, quantise
from busi_tune.training.learner import Learner
from busi_tune.training.losses import compute_loss
from busi_tune.training.ranks import share, sum_over_ranks

Metrics = dict[str, float]


@dataclass
class Tally:
    """Losses and counts of a pass, on the device."""

    threshold: float
    losses: list[Tensor] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)

    def add(self, losses: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Take note of a batch: losses (B,), logits and masks (B, 1, S, S)."""
        self.losses.append(losses.detach().double().sum())
        predicted = is_lesion(quantise(logits.detach().float().sigmoid()), self.threshold)
        self.counts.append(count_pixels(predicted, masks))

    def batch_losses(self) -> npt.NDArray[np.float64]:
        """Read the loss of every batch, summed over its images on all ranks."""
        return sum_over_ranks(torch.stack(self.losses)).cpu().numpy()

    def counts_of_images(self) -> npt.NDArray[np.int64]:
        """Read the counts (N, 4) of this rank's images."""
        return torch.cat(self.counts).cpu().numpy()


def train_epoch(
    learner: Learner,
    images: DeviceImages,
    indices: npt.NDArray[np.int64],
    num_images: int,
    config: Config,
    epoch: int,
) -> Metrics:
    """Train on every image of the training part once.

    Args:
        learner: what is trained.
        images: the set on the learner's device.
        indices: the training part.
        num_images: size of the whole set.
        config: the resolved configuration.
        epoch: number of the epoch, from 1; with the seed it determines order and augmentation.

    Returns:
        Loss and metrics over the augmented images, as the weights were at each batch.

    Raises:
        FloatingPointError: a batch's loss was not finite; names epoch and batch.
    """
    training = config.training
    order = epoch_order(indices, config.seed, epoch)
    changes = draw_parameters(num_images, config.seed, epoch, config.augment)[order]
    batches = list(
        zip(
            split_batches(order.to(images.index_device), training.batch_size),
            split_batches(changes.to(images.device), training.batch_size),
            strict=True,
        )
    )
    learner.model.train()
    tally = Tally(training.threshold)
    for start in range(0, len(batches), training.accumulate):
        step = batches[start : start + training.accumulate]
        images_in_step = sum(len(batch) for batch, _ in step)
        for batch, batch_changes in step:
            loss = _forward(learner.model, images, batch, batch_changes, config, tally)
            (loss / images_in_step).backward()  # type: ignore[no-untyped-call]
        learner.step()
    learner.finish_epoch()
    losses = tally.batch_losses()
    if not np.isfinite(losses).all():
        first = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
        raise FloatingPointError(
            f"the loss is not finite in epoch {epoch}, batch {first} of {len(batches)}; lower "
            "optimizer.lr, or set training.clip_norm"
        )
    return _means(float(losses.sum()), tally.counts_of_images(), images.device)


def validate(
    model: nn.Module, images: DeviceImages, indices: npt.NDArray[np.int64], config: Config
) -> Metrics:
    """Compute loss and metrics on the validation part, at training size.

    Each rank takes its share of the images; the returned means are those of all.
    """
    model.eval()
    tally = Tally(config.training.threshold)
    own = share(torch.tensor(indices)).to(images.index_device)
    for batch in torch.split(own, config.training.evaluation_batch_size):
        inputs, masks = images.gather(batch)
        with torch.inference_mode():
            logits = _logits(model, inputs, config)
            tally.add(compute_loss(logits, masks, config.loss), logits, masks)
    # The ranks' numbers of batches may differ, so they sum one number and not the batches'.
    loss = sum_over_ranks(torch.stack(tally.losses).sum())
    return _means(float(loss), tally.counts_of_images(), images.device)


def _forward(
    model: nn.Module,
    images: DeviceImages,
    batch: Tensor,
    changes: Tensor,
    config: Config,
    tally: Tally,
) -> Tensor:
    """Return the summed loss of this rank's images of a batch."""
    own, own_changes = share(batch), share(changes)
    num_own = len(own)
    if num_own == 0:
        # A rank left without images runs one that does not count: all ranks then have the same
        # gradients to sum, and synchronised batch norm finds all of them.
        own, own_changes = batch[:1], changes[:1]
    inputs, masks = images.gather(own)
    if config.augment.enabled:
        inputs, masks = augment(inputs, masks, own_changes)
    logits = _logits(model, inputs, config)
    losses = compute_loss(logits, masks, config.loss)[:num_own]
    tally.add(losses, logits[:num_own], masks[:num_own])
    return losses.sum()


def _logits(model: nn.Module, images: Tensor, config: Config) -> Tensor:
    if config.training.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    with autocast(images.device, config):
        logits: Tensor = model(images)
    return logits


def autocast(device: torch.device, config: Config) -> torch.autocast:
    """Return the context of forward passes at the training's precision."""
    half = config.training.precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def _means(loss: float, counts: npt.NDArray[np.int64], device: torch.device) -> Metrics:
    """Average over the images of all ranks; Dice also over those with a lesion alone."""
    metrics = compute_metrics(counts)
    tumour = counts[:, 0] + counts[:, 2] > 0
    sums = [len(counts), tumour.sum(), metrics["dice"][tumour].sum()]
    sums += [metrics[name].sum() for name in METRICS]
    totals = torch.tensor(sums, dtype=torch.float64, device=device)
    num_images, num_tumour, dice_tumour, *others = sum_over_ranks(totals).tolist()
    return {
        "loss": loss / num_images,
        **{name: total / num_images for name, total in zip(METRICS, others, strict=True)},
        "dice_tumour": dice_tumour / num_tumour if num_tumour else float("nan"),
    }
