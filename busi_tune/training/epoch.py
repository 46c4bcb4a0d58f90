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
from busi_tune.evaluation.levels import is_lesion, quantise
from busi_tune.training.learner import Learner
from busi_tune.training.losses import compute_loss
from busi_tune.training.ranks import share, sum_over_ranks

Metrics = dict[str, float]
Indices = npt.NDArray[np.int64]


def train_epoch(
    learner: Learner, images: DeviceImages, indices: Indices, config: Config, epoch: int
) -> Metrics:
    """Train on every image of the training part once.

    Args:
        learner: what is trained.
        images: the set on the learner's device.
        indices: the training part.
        config: the resolved configuration.
        epoch: number of the epoch, from 1; with the seed it determines order and augmentation.

    Returns:
        Loss and metrics over the augmented images, as the weights were at each batch.

    Raises:
        FloatingPointError: a batch's loss was not finite; names epoch and batch.
    """
    training = config.training
    order = epoch_order(indices, config.seed, epoch)
    changes = draw_parameters(len(images), config.seed, epoch, config.augment)[order]
    batches = list(
        zip(
            split_batches(order.to(images.index_device), training.batch_size),
            split_batches(changes.to(images.device), training.batch_size),
            strict=True,
        )
    )
    learner.model.train()
    tally = Tally()
    for start in range(0, len(batches), training.accumulate):
        step = batches[start : start + training.accumulate]
        images_in_step = sum(len(batch) for batch, _ in step)
        for batch, batch_changes in step:
            loss = _run_batch(learner.model, images, batch, batch_changes, config, tally)
            (loss / images_in_step).backward()  # type: ignore[no-untyped-call]
        learner.step()
    learner.finish_epoch()
    return tally.means(f"training loss of epoch {epoch}")


@torch.inference_mode()
def validate(
    model: nn.Module, images: DeviceImages, indices: Indices, config: Config, epoch: int
) -> Metrics:
    """Compute loss and metrics on the validation part, at training size.

    Raises:
        FloatingPointError: a batch's loss was not finite; names epoch and batch.
    """
    model.eval()
    tally = Tally()
    order = torch.tensor(indices).to(images.index_device)
    for batch in torch.split(order, config.training.evaluation_batch_size):
        _run_batch(model, images, batch, None, config, tally)
    return tally.means(f"validation loss of epoch {epoch}")


def autocast(device: torch.device, config: Config) -> torch.autocast:
    """Return the context of forward passes at the training's precision."""
    half = config.training.precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def _run_batch(
    model: nn.Module,
    images: DeviceImages,
    batch: Tensor,
    changes: Tensor | None,
    config: Config,
    tally: "Tally",
) -> Tensor:
    """Return the summed loss of this rank's share of a global batch and take note of it."""
    own = share(batch)
    num_own = len(own)
    # A rank left without images runs one that does not count: all ranks then have gradients of
    # the same weights to sum, and synchronised batch norm finds all of them.
    inputs, masks = images.gather(own if num_own else batch[:1])
    if changes is not None and config.augment.enabled:
        inputs, masks = augment(inputs, masks, share(changes) if num_own else changes[:1])
    if config.training.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with autocast(images.device, config):
        logits = model(inputs)
    losses = compute_loss(logits, masks, config.loss)[:num_own]
    tally.losses.append(losses.detach().double().sum())
    predicted = is_lesion(quantise(logits.detach().float().sigmoid()), config.training.threshold)
    tally.counts.append(count_pixels(predicted, masks)[:num_own])
    return losses.sum()


@dataclass
class Tally:
    """Losses and counts of a pass, on the device."""

    losses: list[Tensor] = field(default_factory=list)
    """The loss of each global batch, summed over this rank's images."""
    counts: list[Tensor] = field(default_factory=list)
    """The counts (B, 4) of this rank's images."""

    def means(self, name: str) -> Metrics:
        """Average over the images of all ranks; Dice also over those with a lesion alone.

        Raises:
            FloatingPointError: a batch's loss is not finite; names it after `name`.
        """
        losses = sum_over_ranks(torch.stack(self.losses)).tolist()
        finite = np.isfinite(losses)
        if not finite.all():
            raise FloatingPointError(
                f"the {name} is not finite in batch {finite.argmin() + 1} of {len(losses)}; lower "
                "optimizer.lr, or set training.clip_norm"
            )
        counts = torch.cat(self.counts).cpu().numpy()
        metrics = compute_metrics(counts)
        tumour = counts[:, 0] + counts[:, 2] > 0
        sums = [len(counts), tumour.sum(), metrics["dice"][tumour].sum()]
        sums += [metrics[metric].sum() for metric in METRICS]
        totals = torch.tensor(sums, dtype=torch.float64, device=self.losses[0].device)
        num_images, num_tumour, dice_tumour, *others = sum_over_ranks(totals).tolist()
        return {
            "loss": sum(losses) / num_images,
            **{name: total / num_images for name, total in zip(METRICS, others, strict=True)},
            "dice_tumour": dice_tumour / num_tumour if num_tumour else float("nan"),
        }
