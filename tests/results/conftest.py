"""Run directories made of plain files, so that tables and figures are tested without training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image, ImageFilter

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.data.cache import ImageSet
from busi_tune.data.splits import make_folds, make_holdout, save_splits
from busi_tune.evaluation.counts import COUNTS, METRICS, compute_metrics
from busi_tune.results.read import KfoldRun, SearchRun, read_run
from busi_tune.run_directory import write_json
from busi_tune.settings import override, to_yaml

SIZE = 32
QUALITY = {"unet": 0.75, "report_cnn": 0.6, "smp_unet": 0.85}
SPACE: dict[str, Any] = {
    "model.architecture": ["unet", "report_cnn"],
    "model.base_width": {"low": 4, "high": 12, "step": 4, "when": {"model.architecture": ["unet"]}},
    "training.batch_size": {"choices": [4, 8], "when": {"model.architecture": ["unet"]}},
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "loss.bce": 0.5,
}
ENVIRONMENT: dict[str, Any] = {
    "commit": "abc123", "python": "3.11.7", "processor": "a processor", "cpus": 2,
    "packages": {"busi_tune": "0.1.0", "torch": "2.14.1", "timm": None},
}  # fmt: skip


def read_kfold(folder: Path) -> KfoldRun:
    """Read a run that must be a cross-validation or a training."""
    run = read_run(folder)
    assert isinstance(run, KfoldRun)
    return run


def read_search(folder: Path) -> SearchRun:
    """Read a run that must be a search."""
    run = read_run(folder)
    assert isinstance(run, SearchRun)
    return run


def make_images(num_images: int = 24) -> ImageSet:
    """Bright noise with dark discs: a third of the images benign, malignant and normal each."""
    generator = np.random.default_rng(0)
    sizes = np.stack(
        [generator.integers(30, 60, num_images), generator.integers(40, 80, num_images)]
    )
    labels = [("benign", "malignant", "normal")[index % 3] for index in range(num_images)]
    originals, images, masks = [], [], []
    for (height, width), label in zip(sizes.T, labels, strict=True):
        radius = 0 if label == "normal" else generator.uniform(0.15, 0.3) * height
        rows, columns = np.ogrid[:height, :width]
        center = generator.uniform(0.35, 0.65, 2) * (height, width)
        mask = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < radius**2
        noise = generator.integers(60, 200, (height, width)) * np.where(mask, 0.3, 1.0)
        originals.append(np.packbits(mask))
        images.append(_resize(noise.astype(np.uint8)))
        masks.append(_resize(mask.astype(np.uint8) * 255) >= 128)
    return ImageSet(
        names=tuple(f"{label} ({index})" for index, label in enumerate(labels)),
        labels=tuple(labels),
        groups=tuple(str(index // 2) for index in range(num_images)),
        image_size=SIZE,
        data_hash="0" * 64,
        images=np.stack(images),
        masks=np.stack(masks).astype(np.uint8),
        sizes=sizes.T.astype(np.int32),
        packed_masks=np.concatenate(originals),
        offsets=np.cumsum([0, *map(len, originals)], dtype=np.int64),
    )


def _resize(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE)))


def write_kfold_run(
    folder: Path, images: ImageSet, models: tuple[str, ...], num_folds: int, epochs: int = 8
) -> Path:
    """Write the files of a finished cross-validation with made-up predictions."""
    generator = np.random.default_rng(1)
    config = override(
        Config(),
        {"kfold.models": {name: {"model.architecture": name} for name in models},
         "kfold.num_folds": num_folds, "training.epochs": epochs,
         "data.image_size": images.image_size},
    )  # fmt: skip
    splits = make_folds(images.labels, images.groups, num_folds, seed=0)
    folder.mkdir(parents=True)
    (folder / run_directory.CONFIG).write_text(to_yaml(config))
    write_json(folder / run_directory.ENVIRONMENT, ENVIRONMENT)
    save_splits(
        folder / run_directory.SPLITS,
        {f"repeat-0/fold-{fold}": split for fold, split in enumerate(splits)},
        images,
    )
    fold_rows, epoch_tables, image_tables = [], [], []
    for fold, split in enumerate(splits):
        for model in models:
            identity = {"model": model, "repeat": 0, "fold": fold, "key": f"{fold}e{len(model)}"}
            table = predict(images, split.test, QUALITY[model], folder / "predictions" / model)
            image_tables.append(table.assign(**identity, part="test"))
            image_tables.append(table.head(1).assign(**identity, part="validation"))
            curve = _curve(generator, epochs - fold % 2, QUALITY[model])
            epoch_tables.append(curve.assign(**identity))
            fold_rows.append({
                **identity, "chosen_here": model == "smp_unet", "status": "finished",
                "num_workers": 1, "device": "cpu", "epochs": len(curve),
                "best_epoch": len(curve) - 1, "seconds": 12.5 + fold,
                "num_parameters": 1_534_083, "converged": fold != 1,
                **table[list(METRICS)].mean(), "num_test": len(table),
                "dice_tumour": table.loc[table["tp"] + table["fn"] > 0, "dice"].mean(),
            })  # fmt: skip
    pd.DataFrame(fold_rows).to_csv(folder / run_directory.FOLDS, index=False)
    pd.concat(epoch_tables).to_csv(folder / run_directory.EPOCHS, index=False)
    pd.concat(image_tables).to_csv(folder / run_directory.IMAGES, index=False)
    return folder


def predict(images: ImageSet, indices: np.ndarray, quality: float, folder: Path) -> pd.DataFrame:
    """Shift and blur the truth by as much as the quality lacks; save the maps and count."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in indices:
        generator = np.random.default_rng([int(index), int(100 * quality)])
        truth = images.original_mask(int(index))
        size = truth.shape[0]
        shift = generator.normal(0, 0.3 * (1 - quality) * size, 2).astype(int)
        moved = np.roll(truth, shift, (0, 1)) & (generator.random() < 0.97)
        if not truth.any() and generator.random() < 0.3:
            moved[size // 3 : size // 2, size // 3 : size // 2] = True
        blur = ImageFilter.GaussianBlur(0.04 * size)
        levels = np.asarray(Image.fromarray(moved.astype(np.uint8) * 255).filter(blur))
        Image.fromarray(levels).save(folder / f"{images.names[index]}.png")
        found = levels >= 128
        pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
        counts = [int((one & other).sum()) for one, other in pairs]
        scale = images.image_size**2 / truth.size
        rows.append({
            "image": images.names[index], "label": images.labels[index],
            "group": images.groups[index], "height": truth.shape[0], "width": truth.shape[1],
            **dict(zip(COUNTS, counts, strict=True)),
            **{f"{name}_resized": round(n * scale) for name, n in zip(COUNTS, counts, strict=True)},
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(**compute_metrics(table[list(COUNTS)].to_numpy()))


def _curve(generator: np.random.Generator, epochs: int, quality: float) -> pd.DataFrame:
    """Draw learning curves that rise to the quality, training a little above validation."""
    epoch = np.arange(1, epochs + 1)
    risen = 1 - np.exp(-4 * epoch / epochs)
    table = {"epoch": epoch, "lr": 1e-3, "seconds": 2.0 * epoch, "images_per_second": 50.0}
    for part, level, noise in (("train", quality + 0.08, 0.005), ("val", quality, 0.02)):
        for name in METRICS:
            noisy = level * risen + generator.normal(0, noise, epochs)
            table[f"{part}_{name}"] = np.clip(noisy, 0, 1)
        table[f"{part}_loss"] = 1.6 * (1 - table[f"{part}_dice"]) + 0.1
    return pd.DataFrame(table).assign(val_dice_tumour=0.95 * table["val_dice"])


def write_search_run(folder: Path, images: ImageSet, num_trials: int = 6, epochs: int = 8) -> Path:
    """Write the files of a search whose third trial was pruned and whose fifth failed."""
    generator = np.random.default_rng(2)
    config = override(Config(), {"search.space": SPACE, "data.image_size": images.image_size})
    folder.mkdir(parents=True)
    (folder / run_directory.CONFIG).write_text(to_yaml(config))
    split = make_holdout(images.labels, images.groups, seed=0)
    save_splits(folder / run_directory.SPLITS, {"search": split}, images)
    trial_rows, epoch_tables = [], []
    for trial in range(num_trials):
        state = {2: "PRUNED", 4: "FAIL"}.get(trial % 6, "COMPLETE")
        length = epochs if state == "COMPLETE" else epochs // 3
        unet = trial % 2 == 0
        curve = _curve(generator, epochs, generator.uniform(0.3, 0.8)).head(length)
        identity = {"trial": trial, "key": f"{trial}e5"}
        epoch_tables.append(curve.assign(**identity))
        trial_rows.append({
            **identity, "state": state,
            "value": curve["val_dice"].max() if state == "COMPLETE" else None,
            "epochs": length, "best_epoch": length, "seconds": 10.0 + trial,
            "num_parameters": 500_000, "num_workers": 1,
            "reason": "loss is not finite in epoch 3" if state == "FAIL" else "",
            "model.architecture": "unet" if unet else "report_cnn",
            "model.base_width": 8 if unet else None,
            "training.batch_size": (4, 8)[trial // 2 % 2] if unet else None,
            "optimizer.lr": 10 ** generator.uniform(-4, -1),
        })  # fmt: skip
    pd.DataFrame(trial_rows).to_csv(folder / run_directory.TRIALS, index=False)
    pd.concat(epoch_tables).to_csv(folder / run_directory.EPOCHS, index=False)
    return folder


def write_refits(folder: Path, images: ImageSet, indices: np.ndarray) -> None:
    """Write what two refits of a trial and of a baseline leave, with a closed test part."""
    refits, tables = [], []
    for model, trial, quality in (("trial 1", 1, 0.8), ("known", None, 0.5)):
        for refit in (0, 1):
            identity = {"model": model, "trial": trial, "refit": refit}
            maps = folder / run_directory.PREDICTIONS / model if refit == 0 else folder / "others"
            found = predict(images, indices, quality, maps)
            tables.append(found.assign(part="test", **identity))
            refits.append(
                identity | {"key": f"{model} {refit}", "search_value": 0.7, "best_value": quality}
                | {"status": "finished", "epochs": 3, "seconds": 2.0, "num_parameters": 10}
                | {"threshold": 0.5, "reason": ""}
            )  # fmt: skip
    pd.DataFrame(refits).to_csv(folder / run_directory.REFITS, index=False)
    pd.concat(tables).to_csv(folder / run_directory.REFIT_IMAGES, index=False)


def search_for(folder: Path, settings: dict[str, Any]) -> None:
    """Change settings of a search's configuration."""
    path = folder / run_directory.CONFIG
    config = override(Config(), yaml.safe_load(path.read_text()))
    path.write_text(to_yaml(override(config, settings)))


def write_inner_folds(folder: Path) -> None:
    """Make a search's trials train on two inner folds, the second an epoch shorter and worse."""
    epochs = pd.read_csv(folder / run_directory.EPOCHS)
    second = epochs[epochs["epoch"] < epochs.groupby("trial")["epoch"].transform("max")]
    second = second.assign(val_dice=second["val_dice"] / 2)
    both = pd.concat([epochs.assign(fold=0), second.assign(fold=1)])
    both.to_csv(folder / run_directory.EPOCHS, index=False)
    trials = pd.read_csv(folder / run_directory.TRIALS)
    trials["key"] = trials["key"].astype(str) + " second"
    trials.to_csv(folder / run_directory.TRIALS, index=False)


@pytest.fixture(scope="session")
def images() -> ImageSet:
    return make_images()


@pytest.fixture
def kfold_run(tmp_path: Path, images: ImageSet) -> Path:
    return write_kfold_run(tmp_path / "kfold", images, ("unet", "report_cnn"), num_folds=2)


@pytest.fixture
def search_run(tmp_path: Path, images: ImageSet) -> Path:
    return write_search_run(tmp_path / "search", images)


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    blank(monkeypatch)


def blank(patch: pytest.MonkeyPatch) -> None:
    """Build figures but spare the seconds that it takes to lay out and render them."""
    patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
    patch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(b"blank"))
