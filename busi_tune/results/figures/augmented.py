"""What the augmentation makes of training images."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from busi_tune import run_directory
from busi_tune.config import AugmentConfig, Config
from busi_tune.data.augment import augment
from busi_tune.data.augment.draws import draw_parameters
from busi_tune.data.batches import DeviceImages
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import Split
from busi_tune.flags import load_settings
from busi_tune.results.figures.overlays import draw_outline
from busi_tune.results.figures.style import TRUTH, frame_image, new_figure, save_figure, set_title
from busi_tune.results.read import KfoldRun, SearchRun
from busi_tune.settings import override

Floats = npt.NDArray[np.float32]

NUM_SAMPLES = 5

logger = logging.getLogger(__name__)


def write_augmented(run: KfoldRun | SearchRun, images: ImageSet, split: Split) -> None:
    """Write images of the training part before and after augmentation, with their masks."""
    config, owner = choose_augment(run)
    if not config.enabled:
        logger.info("no augmented samples: augment.enabled is off%s", owner and f" for {owner}")
        return
    has_lesion = images.masks[split.train].any(axis=(1, 2))
    candidates = split.train[has_lesion] if has_lesion.any() else split.train
    generator = np.random.default_rng(run.config.seed)
    chosen = generator.choice(candidates, min(NUM_SAMPLES, len(candidates)), replace=False)
    indices = torch.from_numpy(np.sort(chosen))
    originals = DeviceImages(images, torch.device("cpu")).gather(indices)
    parameters = draw_parameters(len(images), run.config.seed, 1, config)
    changed = augment(*originals, parameters[indices], config)
    pictures = [picture[:, 0].numpy() for picture in (*originals, *changed)]
    names = [images.names[index] for index in indices.tolist()]
    figure = plot_augmented(names, pictures, owner)
    save_figure(figure, run.folder / run_directory.FIGURES, "augmented", vector=False)


def choose_augment(run: KfoldRun | SearchRun) -> tuple[AugmentConfig, str]:
    """Return a search's winning augmentation, or the first model's.

    Where others of the run may have another one, also whose it is; else an empty name.
    """
    common = run.config.augment
    if isinstance(run, SearchRun):
        best = run.folder / run_directory.BEST
        if not best.exists():
            return common, ""
        winning = override(Config(), load_settings(best)).augment
        return winning, "" if winning == common else f"the winner ({best.name})"
    fields = [field.name for field in dataclasses.fields(common)]
    of_models = {
        model: {name: run.setting(model, f"augment.{name}") for name in fields}
        for model in run.trained
    }
    # What searches chose inside the folds differs from fold to fold.
    known = {model: own for model, own in of_models.items() if None not in own.values()}
    if not known:
        return common, ""
    first, own = next(iter(known.items()))
    alike = all(other == own for other in of_models.values())
    return AugmentConfig(**own), "" if alike else f"model {first}"


def plot_augmented(names: Sequence[str], pictures: Sequence[Floats], owner: str = "") -> Figure:
    """Draw originals with their outlines, and what became of them with their masks.

    Args:
        names: of the N images.
        pictures: images, masks, augmented images and augmented masks, each (N, S, S).
        owner: whose augmentation it is, where others have another.
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
        f"epoch 1{owner and f' of {owner}'}; blue: outline of the mask."
    )
    set_title(figure, "Augmented training images", details)
    return figure
