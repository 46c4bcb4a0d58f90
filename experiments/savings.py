"""What pruning and TPE save: best value over seconds spent, on synthetic images.

python experiments/savings.py --out experiments/results/savings    # about 65 minutes on two cores
python experiments/savings.py --out experiments/results/savings --again    # from savings.csv there

Searches of equal wall clock, each method under the same seeds; a seed draws the split, the weights
and the proposals. Pruned trials count with their best value so far, as everyone who stops a trial
would count it. Seconds are those of all trials, one after another in the order in which they began,
though two run at a time. Runs already in --work are taken as they are; `runs.csv` says which commit
and machine each is of.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from busi_tune.results.figures.style import SERIES, house_style
from busi_tune.results.pages.tables import Table, write_csv, write_page
from busi_tune.results.read import SearchRun, read_run

HALVING = ["--search.sampler", "tpe", "--search.pruner", "halving", "--search.min_epochs"]
RANDOM = "random, no pruning"
METHODS = {
    "TPE, halving from epoch 2": [*HALVING, "2"],
    "TPE, halving from epoch 3": [*HALVING, "3"],
    "TPE, no pruning": ["--search.sampler", "tpe", "--search.pruner", "none"],
    RANDOM: ["--search.sampler", "random", "--search.pruner", "none"],
}
SPACE = {
    "model.architecture": ["unet", "report_cnn"],
    "model.base_width": {"low": 4, "high": 16, "step": 4, "when": {"model.architecture": "unet"}},
    "model.dropout": {"low": 0.0, "high": 0.5, "when": {"model.architecture": "report_cnn"}},
    "optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "optimizer.name": ["adam", "adamw", "sgd"],
    "loss.bce": {"low": 0.1, "high": 3.0, "log": True},
    "augment.crop_scale": {"low": 0.08, "high": 1.0},
}
FLAGS = {
    "data.phantom_images": 80, "data.image_size": 32, "training.epochs": 8,
    "search.num_trials": 1000, "search.refit": 0,
    "search.start": "[]", "search.space": json.dumps(SPACE),
}  # fmt: skip


def run_search(folder: Path, method: list[str], seed: int, budget: str) -> None:
    flags = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "busi_tune.search"]
    if folder.exists():
        command += ["--resume", str(folder)]
    else:
        command += ["--run_dir", str(folder), *flags, *method]
        command += ["--seed", str(seed), "--search.budget", budget]
    subprocess.run(command, check=True)


def best_over_seconds(run: SearchRun, at: np.ndarray) -> np.ndarray:
    """Return the best value seen after so many seconds of trials, over both slots."""
    epochs = run.epochs.sort_values("trial", kind="stable")
    spent = epochs.groupby("trial")["seconds"].diff().fillna(epochs["seconds"])
    ordered = epochs.assign(spent=spent.cumsum(), best=epochs[run.monitor].cummax())
    positions = np.searchsorted(ordered["spent"].to_numpy(), at, side="right") - 1
    best = ordered["best"].to_numpy()[np.maximum(positions, 0)]
    return np.where(positions >= 0, best, np.nan)


def describe(method: str, seed: int, run: SearchRun) -> dict[str, object]:
    """Return where a search comes from."""
    record = json.loads((run.folder / "environment.json").read_text())
    origin = {name: record[name] for name in ("time", "commit", "processor", "cpus", "python")}
    return {"method": method, "seed": seed, "trials": len(run.trials), **origin}


def plot(curves: pd.DataFrame, path: Path) -> None:
    with house_style():
        figure, axes = plt.subplots(figsize=(6, 4))
        for (method, rows), style, colour in zip(
            curves.groupby("method", sort=False), ["-", "-.", "--", ":"], SERIES, strict=False
        ):
            by_second = rows.groupby("seconds")["best"]
            mean = by_second.mean()
            axes.plot(mean.index, mean, style, color=colour, label=method)
            range_of = by_second.min(), by_second.max()
            axes.fill_between(mean.index, *range_of, color=colour, alpha=0.12)
        axes.set(xlabel="seconds of trials, both slots", ylabel="best val_dice so far")
        axes.legend()
        seeds = curves["seed"].nunique()
        axes.set_title(f"Mean and range over {seeds} seeds, synthetic images at 32 pixels")
        for ending in ("png", "svg"):
            figure.savefig(path.with_suffix(f".{ending}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/savings"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", default="180s")
    parser.add_argument("--again", action="store_true", help="the page alone, from savings.csv")
    given = parser.parse_args()
    curves = pd.read_csv(given.out / "savings.csv") if given.again else measure(given)
    write_page(given.out, "savings", "What pruning and TPE save", summarise(curves))


def measure(given: argparse.Namespace) -> pd.DataFrame:
    """Run the searches and write the best value over seconds of each."""
    runs: dict[tuple[str, int], SearchRun] = {}
    for seed in range(given.seeds):
        for method, flags in METHODS.items():
            name = method.replace(", ", "-").replace(" ", "_")
            folder = given.work / f"{name}-{seed}"
            if not (folder / "tables").exists():
                run_search(folder, flags, seed, given.budget)
            run = read_run(folder)
            assert isinstance(run, SearchRun)
            runs[method, seed] = run
    last = min(run.trials["seconds"].sum() for run in runs.values())
    at = np.linspace(0, last, 41)[1:]
    frames = [
        pd.DataFrame({"method": method, "seed": seed, "seconds": at}).assign(
            best=best_over_seconds(run, at), trials=len(run.trials)
        )
        for (method, seed), run in runs.items()
    ]
    curves = pd.concat(frames, ignore_index=True)
    write_csv(given.out / "savings.csv", curves)
    origins = pd.DataFrame([describe(*key, run) for key, run in runs.items()])
    write_csv(given.out / "runs.csv", origins)
    plot(curves, given.out / "savings")
    return curves


def summarise(curves: pd.DataFrame) -> list[Table]:
    """Return what each method comes to in equal time, and the time that it takes to be as good."""
    at = np.sort(curves["seconds"].unique())
    return [compare_at(curves, at), compare_until(curves, at)]


def compare_at(curves: pd.DataFrame, at: np.ndarray) -> Table:
    """Return each method's best value at a quarter, half and all of the seconds."""
    quarters = {"a quarter": at[9], "half": at[19], "all": at[-1]}
    rows = []
    for method, own in curves.groupby("method", sort=False):
        row = {"Method": method, "Trials": float(own.groupby("seed")["trials"].first().mean())}
        for name, seconds in quarters.items():
            values = own.loc[own["seconds"] == seconds, "best"]
            row[f"Best after {name}"] = f"{values.mean():.3f} ± {values.std():.3f}"
        rows.append(row)
    caption = (
        f"Best val_dice after a quarter, half and all of {at[-1]:.0f} seconds of trials (the least "
        f"that a search spent), mean and standard deviation over {curves['seed'].nunique()} seeds."
    )
    return Table(caption, pd.DataFrame(rows))


def compare_until(curves: pd.DataFrame, at: np.ndarray) -> Table:
    """Return when each method is as good as random search of the same seed comes to be."""
    last = curves[(curves["method"] == RANDOM) & (curves["seconds"] == at[-1])]
    goal = curves["seed"].map(last.set_index("seed")["best"])
    reached = curves["seconds"].where(curves["best"] >= goal, np.inf)
    first = reached.groupby([curves["method"], curves["seed"]], sort=False).min()
    rows = []
    for method, seconds in first.groupby("method", sort=False):
        said = [f"{each:.0f}" if np.isfinite(each) else "never" for each in seconds]
        row = {"Method": method, "Median": f"{seconds.median():.0f}".replace("inf", "never")}
        seeds = seconds.index.get_level_values("seed")
        rows.append(row | {f"Seed {s}": each for s, each in zip(seeds, said, strict=True)})
    caption = (
        f"Seconds of trials until the value that {RANDOM}, has reached under the same seed after "
        f"all {at[-1]:.0f}, in steps of {at[0]:.1f}."
    )
    return Table(caption, pd.DataFrame(rows))


if __name__ == "__main__":
    main()
