"""What the augmentation makes of training images."""

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.data.augment import augment
from busi_tune.data.augment.draws import draw_parameters
from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.results.figures.overlays import draw_outline
from busi_tune.results.figures.style import TRUTH, frame_image, new_figure, save_figure, set_title
from busi_tune.results.read import KfoldRun, SearchRun

Floats = npt.NDArray[np.float32]

NUM_SAMPLES = 5

logger = logging.getLogger(__name__)


def write_augmented(run: KfoldRun | SearchRun, images: ImageSet, split: Split) -> None:
    """Write images of the training part before and after augmentation, with their masks."""
    if not run.config.augment.enabled:
        logger.info("no augmented samples: augment.enabled is off")
        return
    has_lesion = images.masks[split.train].any(axis=(1, 2))
    candidates = split.train[has_lesion] if has_lesion.any() else split.train
    generator = np.random.default_rng(run.config.seed)
    chosen = generator.choice(candidates, min(NUM_SAMPLES, len(candidates)), replace=False)
    indices = torch.from_numpy(np.sort(chosen))
    originals = DeviceImages(images, torch.device("cpu")).gather(indices)
    parameters = draw_parameters(len(images), run.config.seed, 1, run.config.augment)
    changed = augment(*originals, parameters[indices], run.config.augment)
    pictures = [picture[:, 0].numpy() for picture in (*originals, *changed)]
    names = [images.names[index] for index in indices.tolist()]
    figure = plot_augmented(names, pictures)
    save_figure(figure, run.folder / run_directory.FIGURES, "augmented", vector=False)


def plot_augmented(names: Sequence[str], pictures: Sequence[Floats]) -> Figure:
    """Draw originals with their outlines, and what became of them with their masks.

    Args:
        names: of the N images.
        pictures: images, masks, augmented images and augmented masks, each (N, S, S).
    """
    images, masks, changed, changed_masks = pictures
    size = images.shape[-1]
    figure = new_figure(height=4.8)
    panels = figure.subplots(3, len(names), squeeze=False)
    for column, name in enumerate(names):
        outlined = ((images, masks), (changed, changed_masks))
        for axes, (picture, mask) in zip(panels[:2, column], outlined, strict=True):
            axes.imshow(picture[column], cmap="gray", vmin=0, vmax=1, extent=(0, size, size, 0))
            draw_outline(axes, mask[column] > 0, TRUTH, "solid")
        panels[2, column].imshow(changed_masks[column], cmap="gray", vmin=0, vmax=1)
        panels[0, column].set_title(name, fontsize=7, fontweight="normal")
    for axes in panels.flat:
        frame_image(axes)
    for axes, label in zip(panels[:, 0], ("Original", "Augmented", "Augmented mask"), strict=True):
        axes.set_ylabel(label)
    details = (
        f"n = {len(names)} training images at training size, drawn at random, as in "
        "epoch 1; blue: outline of the mask."
    )
    set_title(figure, "Augmented training images", details)
    return figure
