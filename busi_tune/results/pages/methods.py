"""The methods section of a paper on a run, ready to paste, from the run's own files."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from busi_tune import run_directory
from busi_tune.kfold_models import NESTED
from busi_tune.results.cost import read_trials
from busi_tune.results.marks import chosen_models
from busi_tune.results.pages import recipes
from busi_tune.results.pages.conclusions import CAVEAT
from busi_tune.results.pages.recipes import join, quote_names
from busi_tune.results.pages.tables import write_page
from busi_tune.results.protocol import read_protocol
from busi_tune.results.read import KfoldRun
from busi_tune.run_directory import read_json
from busi_tune.statistics.intervals import NUM_RESAMPLES

COUNTED = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
}
LIBRARIES = {
    "torch": "PyTorch", "segmentation_models_pytorch": "segmentation-models-pytorch",
    "timm": "timm", "ray": "Ray", "optuna": "Optuna", "scikit-learn": "scikit-learn",
    "numpy": "NumPy", "scipy": "SciPy", "opencv-python-headless": "OpenCV",
}  # fmt: skip

logger = logging.getLogger(__name__)


def write_methods(run: KfoldRun) -> None:
    """Write methods.md and methods.tex: data, splits, models, training, evaluation, statistics."""
    try:
        protocol = read_protocol(run)
        environment = read_json(run.folder / run_directory.ENVIRONMENT)
        manifest = read_json(run.folder / run_directory.SPLITS)
    except (OSError, ValueError) as error:
        logger.warning("no methods section: %s", error)
        return
    sections = {
        "Data": describe_data(run, protocol),
        "Splits": f"{describe_splits(run, protocol, list(manifest['splits'].values()))} "
        f"{describe_choices(run, environment)}",
        "Models and training": describe_models(run),
        "Evaluation": describe_evaluation(run),
        "Statistics": describe_statistics(run),
        "Implementation": describe_implementation(run, environment),
    }
    paragraphs = [f"**{title}.** {text}" for title, text in sections.items()]
    write_page(run.folder / run_directory.TABLES, "methods", "Methods", paragraphs)


def describe_data(run: KfoldRun, protocol: Mapping[str, Any]) -> str:
    """Say how many images of which kind there are, and what was left out."""
    data = protocol["data"]
    classes = join([f"{count:,} {label}" for label, count in data["images_per_class"].items()])
    source = "breast-ultrasound images" if run.config.data.root else "synthetic ultrasound images"
    sentences = [f"We used {data['num_images']:,} {source} ({classes})."]
    excluded = data["excluded"] or {}
    if others := excluded.get("classes"):
        listed = join([f"{count:,} {label}" for label, count in others.items()])
        sentences.append(f"Of the folder's other classes {listed} images were not used.")
    if bad := excluded.get("bad_images"):
        sentences.append(f"{len(bad):,} images that failed the data check were left out.")
    elif data["excluded"] is not None and not others:
        sentences.append("No image of the folder was left out.")
    sentences.append("The masks of an image were united.")
    return " ".join(sentences)


def describe_splits(
    run: KfoldRun, protocol: Mapping[str, Any], splits: Sequence[Mapping[str, list[str]]]
) -> str:
    """Say which images train, validate and test, and what their separation promises."""
    folds, groups = protocol["folds"], protocol["groups"]
    sizes = {
        part: _range([len(split[part]) for split in splits])
        for part in ("train", "validation", "test")
    }
    drawn = (
        "stratified by class"
        + {
            "auto": f" over {groups['num_groups']:,} whole groups of images, where those that are "
            "near-duplicates by their content make one",
            "csv": f" over the {groups['num_groups']:,} whole groups of a file",
            "none": "",
        }[groups["found"]]
    )
    parts = f"{sizes['train']} training, {sizes['validation']} validation and {sizes['test']} test"
    if folds["kind"] == "hold-out":
        design = f"The images were split 8:1:1 ({parts} images), {drawn}."
    else:
        repeats = folds["num_repeats"]
        again = f", repeated {repeats} times with other folds and seeds" if repeats > 1 else ""
        design = (
            f"We ran a {folds['num_folds']}-fold cross-validation{again}; folds were {drawn} and "
            "the same for every model. Each fold was the test part once; a tenth of the other "
            f"images, drawn alike, was the validation part ({parts} images)."
        )
    promise = f" {groups['statement']}" if run.config.data.root else ""
    return design + promise


def describe_choices(run: KfoldRun, environment: Mapping[str, Any]) -> str:
    """Say which choices the test images took no part in, as far as this software made them."""
    compared = "compared" in environment
    sentence = "Test images took no part in any choice"
    if compared or run.trained != run.models:
        sentence += f" that this software made for {quote_names(run.trained)}"
    sentences = [f"{sentence}."]
    if compared:
        sentences.append("Whether a run was planned in view of another's results is not recorded.")
    if chosen := chosen_models(run):
        sentences.append(
            f"The exception is {quote_names(chosen)}: its settings had been chosen on some of "
            "these images, so its figures are optimistic and no superiority is claimed for it."
        )
    return " ".join(sentences)


def describe_models(run: KfoldRun) -> str:
    """Say what was trained, how, and how far."""
    sentences = []
    if recipes.own_models(run):
        sentences = [
            f"We trained {recipes.describe_models(run)}.",
            recipes.describe_preparation(run),
            recipes.describe_training(run),
        ]
    if NESTED in run.models and run.config.kfold.search:
        sentences.append(recipes.describe_search(run))
    if searched := recipes.searched_models(run):
        sentences.append(
            f"The settings of {quote_names(searched)} were searched in the training set of each "
            "fold, as the pages of their own runs describe."
        )
    external = [model for model in run.models if model not in run.trained]
    if external:
        sentences.append(
            f"{quote_names(external)} was trained by other software on the same folds, the "
            "validation part being part of its training; its counts are those it wrote itself."
        )
    converged = run.folds["converged"].dropna().astype(bool)
    if not converged.all():
        sentences.append(
            f"In {(~converged).sum()} of {len(converged)} trainings the best epoch was among the "
            "last fifth, so that the validation curve may still have been rising."
        )
    return " ".join(sentences)


def describe_evaluation(run: KfoldRun) -> str:
    """Say how predictions became figures."""
    thresholds = sorted({run.setting(model, "training.threshold") for model in run.models} - {None})
    listed = [f"{threshold:g}" for threshold in thresholds] or ["a value that is not known"]
    sentences = [
        "Probabilities were resized bilinearly to each image's own size, rounded to 8 bits and "
        f"thresholded at {join(listed)}.",
        f"{join(list(COUNTED.values()))} were computed per image in original pixels and averaged "
        "over images.",
        "An empty prediction for an image without lesion scores 1, a one-sided empty mask 0.",
    ]
    if "nsd" in run.images:
        from busi_tune.evaluation.surface import DEFINITION

        sentences.append(DEFINITION)
    if "tuned_threshold" in run.folds:
        sentences.append(
            "Besides, the threshold and the smallest component kept were chosen on each "
            "training's validation part, and are reported apart."
        )
    tested = run.images.drop_duplicates("image")
    lesions = int(tested["has_lesion"].sum())
    sentences.append(
        f"Results are given for the {lesions:,} images with a lesion and for all {len(tested):,}."
    )
    if lesions < len(tested):
        sentences.append(
            f"For the {len(tested) - lesions:,} images without one the share in which any pixel "
            "was predicted as lesion is given beside them."
        )
    return " ".join(sentences)


def describe_statistics(run: KfoldRun) -> str:
    """Say how uncertain figures are measured to be, and when one model is called better."""
    sentences = [
        "Means over images have 95 % percentile bootstrap intervals from "
        f"{NUM_RESAMPLES:,} resamples of whole groups of images, shares have Wilson's intervals."
    ]
    if len(run.models) > 1:
        sentences.append(
            "Every pair of models was compared on the same images, averaged over repeats: the "
            "mean paired difference with its bootstrap interval over groups, Wilcoxon's "
            "signed-rank test over the groups' means with the rank-biserial correlation as effect "
            "size, the corrected resampled t test of Nadeau and Bengio over trainings, and the "
            "share of trainings in which the first model was better with its interval of Clopper "
            "and Pearson. P values were adjusted over all pairs by Holm's method. A model is "
            "called better where the adjusted p of the corrected t test is below 0.05 and the "
            f"bootstrap interval excludes zero. {CAVEAT}"
        )
    return " ".join(sentences)


def describe_implementation(run: KfoldRun, environment: Mapping[str, Any]) -> str:
    """Name software, hardware and seeds."""
    packages = environment["packages"]
    versions = [f"{name} {packages[key]}" for key, name in LIBRARIES.items() if packages.get(key)]
    own = packages.get("busi_tune")
    name = f"busi_tune{f' {own}' if own else ''}{_describe_commit(environment.get('commit'))}"
    devices = sorted(run.folds["device"].dropna().unique())
    listed = join(["the CPU" if device == "cpu" else device for device in devices])
    workers = sorted({int(number) for number in run.folds["num_workers"].dropna()})
    counts = join([f"{number} worker{'s' * (number > 1)}" for number in workers])
    repeated = run.config.kfold.num_repeats > 1
    return (
        f"The runs were made with {name} on Python {environment['python']}, {join(versions)}. "
        f"Each training ran on {listed} with {counts}; the machine had {environment['cpus']} CPU "
        f"cores ({environment['processor']}). {_describe_hours(run)} "
        "Splits, initial weights, order and augmentation derive from seed "
        f"{run.config.seed}{', one more in each repeat' if repeated else ''}."
    )


def _describe_commit(commit: str | None) -> str:
    if not commit:
        return ""
    modified = ", modified" if commit.endswith("-dirty") else ""
    return f" (commit {commit.removesuffix('-dirty')[:12]}{modified})"


def _describe_hours(run: KfoldRun) -> str:
    """Say how long the trainings took whose time is known, trials of nested searches among them."""
    seconds, trials = run.folds["seconds"].dropna(), read_trials(run)["seconds"].dropna()
    searched = f" and {len(trials):,} trials of the searches inside them" if len(trials) else ""
    hours = (seconds.sum() + trials.sum()) / 3600
    kind = "trainings of folds" if searched else "trainings"
    return f"The {len(seconds):,} {kind}{searched} took {hours:.1f} hours in all."


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
