"""The report's batch-averaged figures, beside those that it published."""

import numpy as np
import pandas as pd

from busi_tune import run_directory
from busi_tune.evaluation.counts import COUNTS, batch_averaged
from busi_tune.results.pages.tables import Table, write_csv, write_page
from busi_tune.results.read import KfoldRun

# Test figures of the report, and its name for each network.
PUBLISHED = {
    "report_cnn": ("report CNN", 2000, 0.8950, 0.8151, 0.9040),
    "unet": ("U-Net", 200, 0.6784, 0.5247, 0.6835),
    "unetplusplus": ("U-Net++ (ResNet34)", 200, 0.7547, 0.6293, 0.7615),
}
REPORT_SCORES = {"pixel_f1": "Pixel F1", "iou": "IoU", "dice": "Dice"}

NO_COMPARISON = (
    "The two sides do not compare: the published figures are batch averages over one random split "
    "of other images, with near-duplicates of its test images, and by the signs of its own curves "
    "these images themselves, in training."
)


def write_report_protocol(run: KfoldRun) -> None:
    """Write the report's metrics of every model, and its published figures at their side."""
    rows = [_row(run, model) for model in run.trained]
    covered = {run.setting(model, "model.architecture") for model in run.trained}
    rows += [_published(name) for name in PUBLISHED if name not in covered]
    own = ["model", "num_images", "epochs", *REPORT_SCORES]
    columns = [*own, *(f"published_{name}" for name in ["model", "epochs", *REPORT_SCORES])]
    table = pd.DataFrame(rows, columns=columns)
    folder = run.folder / run_directory.TABLES
    write_csv(folder / "report_protocol.csv", table)
    labels = {"model": "Model", "num_images": "n", "epochs": "Epochs", **REPORT_SCORES}
    labels |= {f"published_{name}": f"{label}, report" for name, label in labels.items()}
    shown = table.astype({name: "Int64" for name in ("num_images", "epochs", "published_epochs")})
    scores = tuple(labels[f"{side}{name}"] for side in ("", "published_") for name in REPORT_SCORES)
    sizes = sorted({_batch_size(run, model) for model in run.trained})
    caption = (
        "The report's protocol: pixels of all test images at training size, normal ones included, "
        f"are pooled over batches of {' or '.join(map(str, sizes))} images in random "
        "order, scored per batch and averaged over batches, then over folds; a batch without "
        "lesion has pixel F1 0 and IoU and Dice 1. Beside them the report's published test "
        "figures for the same architecture; width, encoder and epochs may differ."
    )
    figures = Table(caption, shown.rename(columns=labels), scores)
    write_page(folder, "report_protocol", "The report's protocol", [figures, NO_COMPARISON])


def _row(run: KfoldRun, model: str) -> dict[str, object]:
    images = run.images[run.images["model"] == model]
    counted = [f"{name}_resized" for name in COUNTS]
    averages = []
    for number, (_, part) in enumerate(images.groupby(["repeat", "fold"])):
        # Images are stored class by class; the report drew its test set at random.
        generator = np.random.default_rng([run.config.seed, number])
        counts = generator.permutation(part[counted].to_numpy(dtype=np.int64))
        averages.append(batch_averaged(counts, _batch_size(run, model)))
    epochs = run.folds.loc[run.folds["model"] == model, "epochs"].mean()
    row: dict[str, object] = {"model": model, "num_images": len(images), "epochs": round(epochs)}
    row |= {name: np.mean([average[name] for average in averages]) for name in REPORT_SCORES}
    return row | _published(run.setting(model, "model.architecture"))


def _batch_size(run: KfoldRun, model: str) -> int:
    """The model's, or the run's where a search chose it."""
    own: int | None = run.setting(model, "training.evaluation_batch_size")
    return own or run.config.training.evaluation_batch_size


def _published(architecture: str) -> dict[str, object]:
    names = [f"published_{name}" for name in ("model", "epochs", *REPORT_SCORES)]
    values = PUBLISHED.get(architecture)
    return dict(zip(names, values, strict=True)) if values else {}
