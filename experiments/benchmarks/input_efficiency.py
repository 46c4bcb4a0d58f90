"""What feeding the network costs: images per second of three ways to run the same training steps.

python experiments/benchmarks/input_efficiency.py                 # phantom images, some minutes
python experiments/benchmarks/input_efficiency.py --root BUSI --out results.jsonl

step    forward, backward and step alone, over and over on one batch that lies on the device
loop    the training loop: order, gather, augmentation, steps, losses and metrics of an epoch
report  the report's way: PIL decoding and torchvision's transforms per image in a DataLoader, the
        same steps, and loss and metrics read off the device after each

The three take turns in short rounds, forwards and backwards, since machines drift; a ratio is the
median over rounds of the paired ratios. One JSON line per network.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import add_line
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from busi_tune.config import Config
from busi_tune.data.batches import DeviceImages
from busi_tune.data.busi import Sample, find_samples
from busi_tune.data.cache import load_images
from busi_tune.data.phantom import write_phantom
from busi_tune.data.pixels import read_mask
from busi_tune.evaluation.counts import compute_metrics, count_pixels
from busi_tune.settings import override
from busi_tune.training.epoch import autocast, train_epoch
from busi_tune.training.learner import Learner, build_learner
from busi_tune.training.losses import compute_loss
from busi_tune.training.ranks import choose_device

CASES = {
    "report_cnn at 256": {"model.architecture": "report_cnn", "data.image_size": 256},
    "unet width 16 at 128": {
        "model.architecture": "unet", "model.base_width": 16, "data.image_size": 128,
    },
}  # fmt: skip


class ReportDataset(Dataset[tuple[Tensor, Tensor]]):
    """Files, decoded and changed anew for every epoch, as in the report."""

    def __init__(self, samples: Sequence[Sample], size: int) -> None:
        self.samples = samples
        self.change = v2.Compose(
            [
                v2.Grayscale(),
                v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
                v2.RandomResizedCrop((size, size)),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.ToImage(),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.samples[index]
        mask = torch.from_numpy(read_mask(sample.mask_paths).astype(np.uint8))[None]
        with Image.open(sample.image_path) as file:
            image, mask = self.change(file.convert("RGB"), tv_tensors.Mask(mask))
        return image, mask.float()


def run_step(learner: Learner, batch: tuple[Tensor, Tensor], config: Config) -> tuple[Tensor, ...]:
    images, masks = batch
    learner.model.train()
    with autocast(images.device, config):
        logits = learner.model(images)
    loss = compute_loss(logits, masks, config.loss).mean()
    loss.backward()
    learner.step()
    return loss, logits, masks


def run_report(
    learner: Learner,
    loader: DataLoader[tuple[Tensor, Tensor]],
    device: torch.device,
    config: Config,
) -> None:
    for images, masks in loader:
        batch = images.to(device), masks.to(device)
        loss, logits, masks = run_step(learner, batch, config)
        loss.item()
        compute_metrics(count_pixels(logits > 0, masks).sum(0, keepdim=True).cpu().numpy())


def build_variants(config: Config, options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    device = choose_device(config.training.device)
    images = load_images(config.data)
    indices = np.sort(np.random.default_rng(0).permutation(len(images))[: options.images])
    device_images = DeviceImages(images, device)
    num_batches = -(-len(indices) // config.training.batch_size)
    learner = build_learner(config, device, steps_per_epoch=num_batches)
    batch = device_images.gather(torch.tensor(indices[: config.training.batch_size]))
    by_name = {sample.name: sample for sample in find_samples(Path(config.data.root or ""))}
    samples = [by_name[images.names[index]] for index in indices]
    loader = DataLoader(
        ReportDataset(samples, config.data.image_size),
        batch_size=config.training.batch_size,
        shuffle=True,
        num_workers=options.loader_workers,
        persistent_workers=options.loader_workers > 0,
    )

    def step() -> None:
        for _ in range(num_batches):
            run_step(learner, batch, config)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def loop() -> None:
        train_epoch(learner, device_images, indices, config, next(epochs))

    epochs = itertools.count(1)
    return {
        "step": step,
        "loop": loop,
        "report": lambda: run_report(learner, loader, device, config),
    }


def measure(
    variants: dict[str, Callable[[], None]], num_images: int, rounds: int
) -> dict[str, Any]:
    for run in variants.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        for name in list(variants)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            variants[name]()
            rates[name].append(num_images / (time.perf_counter() - began))
    ratios = {
        f"{name}_over_step": statistics.median(map(float.__truediv__, rates[name], rates["step"]))
        for name in ("loop", "report")
    }
    ratios["loop_over_report"] = statistics.median(
        map(float.__truediv__, rates["loop"], rates["report"])
    )
    return {
        "images_per_second": {n: round(statistics.median(r), 2) for n, r in rates.items()},
        **{name: round(value, 4) for name, value in ratios.items()},
        "rates": {name: [round(rate, 2) for rate in values] for name, values in rates.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="images in BUSI's layout; default: phantom images")
    parser.add_argument("--images", type=int, default=96, help="images of an epoch")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--loader_workers", type=int, default=0, help="of the report's way")
    parser.add_argument("--out", type=Path, help="file to which the lines are added")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or f"{temporary}/phantom"
        if options.root is None:
            write_phantom(Path(root), options.images)
        for name, settings in CASES.items():
            data = {"data.root": root, "data.cache_dir": f"{temporary}/cache"}
            batches = {"training.batch_size": options.batch_size}
            config = override(Config(), {**settings, **data, **batches})
            num_images = min(options.images, len(load_images(config.data)))
            figures = measure(build_variants(config, options), num_images, options.rounds)
            device = choose_device(config.training.device)
            gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
            arguments = {k: v for k, v in vars(options).items() if k not in ("out", "root")}
            line = {"case": name, "data": "files" if options.root else "phantom", **arguments}
            line |= {"device": gpu or "cpu", **figures}
            add_line(line, options.out)


if __name__ == "__main__":
    main()
