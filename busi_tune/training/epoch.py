"""One pass over the training part, and one over the validation part.

Nothing here waits for the device within a pass: losses and counts stay there and are read once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from busi_tune.config import Config
from busi_tune.data.augment import augment
from busi_tune.data.augment.draws import draw_parameters
from busi_tune.data.batches import DeviceImages, epoch_order, split_batches
from busi_tune.data.micro_batches import MicroBatches
from busi_tune.evaluation.counts import METRICS, compute_metrics, count_pixels
from busi_tune.evaluation.levels import is_lesion, quantise
from busi_tune.models.heads import Outputs, final_logits
from busi_tune.training.learner import Learner
from busi_tune.training.losses import compute_loss
from busi_tune.training.ranks import num_ranks, share, sum_over_ranks

Metrics = dict[str, float]
Indices = npt.NDArray[np.int64]
Step = Sequence[tuple[Tensor, Tensor]]
"""The global batches of an optimiser step: indices, and parameters of the augmentation."""
Outcome = tuple[Tensor, Tensor]
"""Losses (B,) and counts (B, 4) of some images."""

_REMEDY = "lower optimizer.lr, or set training.clip_norm"


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
        torch.OutOfMemoryError: a single image does not fit.
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
        tally.extend(_learn(learner, images, step, config))
        learner.step()
    learner.finish_epoch()
    return tally.means(f"training loss of epoch {epoch}")


@torch.inference_mode()
def validate(
    model: nn.Module,
    images: DeviceImages,
    indices: Indices,
    config: Config,
    epoch: int,
    parts: MicroBatches | None = None,
) -> Metrics:
    """Compute loss and metrics on the validation part, at training size.

    Args:
        model: network of logits.
        images: the set on the network's device.
        indices: the validation part.
        config: the resolved configuration.
        epoch: named where a loss is not finite.
        parts: in how many parts batches run, from earlier epochs.

    Raises:
        FloatingPointError: a batch's loss was not finite; names epoch and batch.
        torch.OutOfMemoryError: a single image does not fit.
    """
    model.eval()
    tally, parts = Tally(), parts or MicroBatches("validation")
    order = torch.tensor(indices).to(images.index_device)

    def run(batch: Tensor) -> list[Outcome]:
        return list(_run_parts(model, images, batch, None, config, parts))

    for batch in torch.split(order, config.training.evaluation_batch_size):
        tally.add(parts.run(partial(run, batch), len(share(batch))))
    return tally.means(f"validation loss of epoch {epoch}")


def check_weights(model: nn.Module, epoch: int) -> None:
    """See to it that what is kept without a validation is finite: no loss shows the last step.

    Raises:
        FloatingPointError: a weight or a running statistic is not; names the epoch.
    """
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    if not torch.stack([value.isfinite().all() for value in values]).all():
        raise FloatingPointError(f"the weights after epoch {epoch} are not finite; {_REMEDY}")


def autocast(device: torch.device, config: Config) -> torch.autocast:
    """Return the context of forward passes at the training's precision."""
    half = config.training.precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def _learn(learner: Learner, images: DeviceImages, step: Step, config: Config) -> "Tally":
    """Find the gradients of a step; what memory or the compiler did not allow is done again."""
    attempt = partial(_sum_gradients, learner, images, step, config)
    run = partial(learner.micro_batches.run, attempt, max(len(share(batch)) for batch, _ in step))
    if config.training.sync_batchnorm and num_ranks() > 1:
        # The ranks meet within the forward pass, so none may repeat one by itself.
        run = attempt
    try:
        return run()
    except Exception as error:
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                f"model.architecture {config.model.architecture} has batch norm where an image of "
                f"{config.data.image_size} pixels is one pixel, which a batch of one image cannot "
                f"train ({error}): set training.batch_size to at least 3 for each worker"
            ) from error
        if not learner.is_compiled or isinstance(error, torch.OutOfMemoryError):
            raise
        learner.run_plainly(error)
    return run()


def _sum_gradients(learner: Learner, images: DeviceImages, step: Step, config: Config) -> "Tally":
    """Sum the gradients of a step's batches, and take note of their losses and counts."""
    learner.optimizer.zero_grad()  # An attempt that failed has left some.
    tally = Tally()
    images_in_step = sum(len(batch) for batch, _ in step)
    for batch, changes in step:
        outcomes = []
        parts = _run_parts(learner.forward, images, batch, changes, config, learner.micro_batches)
        for losses, counts in parts:
            (losses.sum() / images_in_step).backward()  # type: ignore[no-untyped-call]
            outcomes.append((losses.detach(), counts))
        tally.add(outcomes)
    return tally


def _run_parts(
    forward: Callable[[Tensor], Outputs],
    images: DeviceImages,
    batch: Tensor,
    changes: Tensor | None,
    config: Config,
    parts: MicroBatches,
) -> Iterator[Outcome]:
    """Give losses and counts of this rank's share of a global batch, part by part."""
    counted = len(share(batch)) > 0
    split_changes = repeat(None) if changes is None else parts.split(_own(changes))
    for part, part_changes in zip(parts.split(_own(batch)), split_changes, strict=False):
        losses, counts = _run_images(forward, images, part, part_changes, config)
        num_counted = len(part) if counted else 0
        yield losses[:num_counted], counts[:num_counted]


def _own(items: Tensor) -> Tensor:
    """Return this rank's share of what a global batch has for each image.

    A rank left without images runs one that does not count: all ranks then have gradients of the
    same weights to sum, and synchronised batch norm finds all of them.
    """
    own = share(items)
    return own if len(own) else items[:1]


def _run_images(
    forward: Callable[[Tensor], Outputs],
    images: DeviceImages,
    indices: Tensor,
    changes: Tensor | None,
    config: Config,
) -> Outcome:
    """Return losses (B,) and counts (B, 4) of some images."""
    inputs, masks = images.gather(indices)
    if changes is not None and config.augment.enabled:
        inputs, masks = augment(inputs, masks, changes, config.augment)
    if config.training.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with autocast(images.device, config):
        outputs = forward(inputs)
    losses = compute_loss(outputs, masks, config.loss)
    probabilities = final_logits(outputs).detach().float().sigmoid()
    predicted = is_lesion(quantise(probabilities), config.training.threshold)
    return losses, count_pixels(predicted, masks)


@dataclass
class Tally:
    """Losses and counts of a pass, on the device."""

    losses: list[Tensor] = field(default_factory=list)
    """The loss of each global batch, summed over this rank's images."""
    counts: list[Tensor] = field(default_factory=list)
    """The counts (B, 4) of this rank's images."""

    def add(self, batch: Sequence[Outcome]) -> None:
        """Take note of a global batch, of which this rank ran a share in parts."""
        self.losses.append(torch.cat([losses for losses, _ in batch]).double().sum())
        self.counts += [counts for _, counts in batch]

    def extend(self, other: "Tally") -> None:
        """Take over the batches of another tally."""
        self.losses += other.losses
        self.counts += other.counts

    def means(self, name: str) -> Metrics:
        """Average over the images of all ranks; Dice also over those with a lesion alone.

        Raises:
            FloatingPointError: a batch's loss is not finite; names it after `name`.
        """
        losses = sum_over_ranks(torch.stack(self.losses)).tolist()
        finite = np.isfinite(losses)
        if not finite.all():
            raise FloatingPointError(
                f"the {name} is not finite in batch {finite.argmin() + 1} of {len(losses)}; "
                f"{_REMEDY}"
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
