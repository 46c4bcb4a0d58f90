"""Megabytes of report.html for a cross-validation, seconds to write it and to open it.

python experiments/benchmarks/page.py --root BUSI --out page.jsonl

The run's files are made up: each model's maps are the true masks, moved, roughened and blurred.
700 phantom images, smaller than BUSI's, stand in without a root. A page is opened by Chromium
where it and playwright are installed, until a click on its last row shows that image. One
JSON line.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from lines import add_line

from busi_tune import run_directory
from busi_tune.config import Config, DataConfig
from busi_tune.data.cache import ImageSet, load_images
from busi_tune.data.phantom import write_phantom
from busi_tune.data.splits import make_folds, save_splits
from busi_tune.evaluation.counts import COUNTS, METRICS, compute_metrics, count_pixels
from busi_tune.evaluation.levels import threshold_level, write_png
from busi_tune.results.html.page import write_html
from busi_tune.results.read import read_run
from busi_tune.results.write import write_results
from busi_tune.run_directory import environment_record, write_json
from busi_tune.settings import override, to_yaml

NUM_FOLDS, NUM_EPOCHS = 5, 20
HALF = threshold_level(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="images in BUSI's layout; default: phantom images")
    parser.add_argument("--images", type=int, default=700, help="of the phantom set")
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument(
        "--roughness", type=float, default=0.1, help="noise in the maps; above 0.15 it makes specks"
    )
    parser.add_argument("--out", type=Path, help="file to which the line is appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or f"{scratch}/phantom"
        if not options.root:
            write_phantom(Path(root), options.images)
        images = load_images(DataConfig(root=root, groups="none"))
        folder = Path(scratch) / "run"
        models = [f"model_{number}" for number in range(options.models)]
        write_run(folder, images, models, options.roughness)
        write_results(folder, None)
        page = folder / run_directory.REPORT
        rest = page.stat().st_size
        began = time.perf_counter()
        write_html(read_run(folder), images)
        seconds = time.perf_counter() - began
        line = {
            "images": len(images),
            "models": options.models,
            "roughness": options.roughness,
            "megabytes": round(page.stat().st_size / 1e6, 2),
            "without_pictures_megabytes": round(rest / 1e6, 2),
            "write_seconds": round(seconds, 1),
            "open_seconds": open_page(page),
        }
    add_line(line, options.out)


def write_run(folder: Path, images: ImageSet, models: list[str], rough: float) -> None:
    """Write what a finished cross-validation leaves, without training."""
    folder.mkdir()
    named: dict[str, dict[str, object]] = {model: {} for model in models}
    config = override(Config(), {"kfold.models": named, "kfold.num_folds": NUM_FOLDS})
    (folder / run_directory.CONFIG).write_text(to_yaml(config))
    environment = environment_record("benchmark", images.data_hash, len(images))
    write_json(folder / run_directory.ENVIRONMENT, environment)
    splits = make_folds(images.labels, images.groups, NUM_FOLDS, seed=0)
    names = {f"repeat-0/fold-{fold}": split for fold, split in enumerate(splits)}
    save_splits(folder / run_directory.SPLITS, names, images)
    folds, epochs, tables = [], [], []
    for fold, split in enumerate(splits):
        for number, model in enumerate(models):
            identity = {"model": model, "repeat": 0, "fold": fold, "key": f"{fold}-{number}"}
            maps = folder / run_directory.PREDICTIONS / model
            table = pd.DataFrame([predict(images, i, number, rough, maps) for i in split.test])
            table = table.assign(**compute_metrics(table[list(COUNTS)].to_numpy()))
            tables.append(table.assign(**identity, part="test"))
            epochs.append(draw_curve(number).assign(**identity))
            lesions = table["tp"] + table["fn"] > 0
            folds.append({
                **identity, "chosen_here": False, "status": "finished", "num_workers": 1,
                "device": "cpu", "epochs": NUM_EPOCHS, "best_epoch": NUM_EPOCHS - 5,
                "seconds": 60.0, "num_parameters": 10**6, "converged": True, "num_test": len(table),
                "dice_tumour": table.loc[lesions, "dice"].mean(), **table[list(METRICS)].mean(),
            })  # fmt: skip
    pd.DataFrame(folds).to_csv(folder / run_directory.FOLDS, index=False)
    pd.concat(epochs).to_csv(folder / run_directory.EPOCHS, index=False)
    pd.concat(tables).to_csv(folder / run_directory.IMAGES, index=False)


def predict(
    images: ImageSet, index: int, number: int, roughness: float, folder: Path
) -> dict[str, object]:
    """Move, roughen and blur the true mask as a map; the image's row of counts."""
    generator = np.random.default_rng([index, number])
    truth = images.original_mask(index)
    height, width = truth.shape
    moved = np.roll(truth, generator.integers(-15, 16, 2), (0, 1)).astype(np.float32)
    noise = cv2.GaussianBlur(generator.standard_normal(truth.shape, np.float32), (0, 0), 5)
    soft = cv2.GaussianBlur(moved, (0, 0), 5) + roughness * noise / noise.std()
    levels = np.clip(255 * soft, 0, 255).astype(np.uint8)
    write_png(folder / f"{images.names[index]}.png", levels)
    found = levels >= HALF
    masks = (torch.from_numpy(mask)[None, None] for mask in (found, truth))
    counts = count_pixels(*masks)[0].tolist()
    row = {"image": images.names[index], "label": images.labels[index]}
    return row | {
        "group": images.groups[index], "height": height, "width": width,
        **dict(zip(COUNTS, counts, strict=True)),
        **{f"{name}_resized": count for name, count in zip(COUNTS, counts, strict=True)},
    }  # fmt: skip


def draw_curve(number: int) -> pd.DataFrame:
    """Draw learning curves that rise as far as a model's number says."""
    epoch = np.arange(1, NUM_EPOCHS + 1)
    risen = (0.8 - 0.1 * number) * (1 - np.exp(-epoch / 5))
    names = [f"{part}_{name}" for part in ("train", "val") for name in (*METRICS, "loss")]
    table = pd.DataFrame({"epoch": epoch, "lr": 1e-3, "seconds": 3.0 * epoch})
    return table.assign(images_per_second=50.0, **dict.fromkeys([*names, "val_dice_tumour"], risen))


def open_page(page: Path) -> float | None:
    """Open the page thrice until its last image has a row that shows it; the median in seconds."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(3):
            opened = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.perf_counter()
            opened.goto(page.as_uri())
            opened.locator("#rows tbody tr").last.get_by_role("button").click()
            opened.locator("#panels image").first.wait_for()
            seconds.append(time.perf_counter() - began)
            opened.close()
        browser.close()
    return round(statistics.median(seconds), 2)


if __name__ == "__main__":
    main()
