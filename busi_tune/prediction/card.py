"""The model card of an export, after Mitchell et al., "Model Cards for Model Reporting", 2019."""

from pathlib import Path

import pandas as pd

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.kfold_models import MODEL_SECTIONS
from busi_tune.models import num_parameters
from busi_tune.prediction.networks import Networks
from busi_tune.prediction.sources import Source
from busi_tune.results.pages import recipes
from busi_tune.results.pages.kfold_tables import EMPTY_RULE
from busi_tune.results.pages.tables import MISSING, Table, format_estimate, to_markdown
from busi_tune.results.protocol import GROUPS
from busi_tune.results.read import KfoldRun
from busi_tune.run_directory import read_json
from busi_tune.settings import flatten, override

CARD = "MODEL_CARD.md"
SCORES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD at 2 px", "hd95": "HD95 (px)"}
USE = """Research on the segmentation of lesions in B-mode breast ultrasound: a comparison with
other networks, outlines that a person corrects, a start for training on own images. It is no
medical device, no authority has examined it, and no patient's care may rest on it."""
LIMITS = """- BUSI has no patient identifiers: images of one woman may lie in training and test
  where they do not resemble each other, which flatters the scores of networks trained on it. It
  comes from one hospital and its two scanners (Al-Dhabyani et al. 2020). On images of other
  devices, settings and women expect less, and measure it: `busi_tune.predict` scores any folder
  that has masks.
- Outlines are a matter of opinion: where a scan is in BUSI twice, its two outlines agree with a
  mean Dice of 0.86.
- The network marks pixels. It does not tell benign from malignant, and it may mark a lesion in an
  image that has none.
- A probability is a network's output, no frequency, unless a calibration shows that it is one.
- Where the networks disagree (`agreement` in predictions.csv), do not trust their average."""
FILES = """| file | content |
| --- | --- |
| `*.safetensors` | the weights of one network each, its settings as YAML in the metadata |
| `config.yaml` | the settings, as `--config` takes them |
| `splits.json` | names of the images that trained and tested |"""
PROTOCOL = "| `protocol.json` | what was tested by which trainings, how it was scored |"
NAMES = """

The names of the run's images stand in `splits.json` and, of a model that a search chose, under
`data.chosen_on` in `config.yaml` and in the weights' metadata. Where names tell of persons, take
them out before you pass the folder on."""
ONNX = """`model.onnx` takes `images`, float32 (N, 1, {size}, {size}), N free: grey values divided
by 255, resized as below; whatever an encoder expects beyond that is inside the model. It gives
`probabilities`, float32 of the same shape, the average of all networks, before they are brought to
the image's own size. On random images ONNX Runtime and torch differ by at most
{difference:.1e}."""


def write_card(folder: Path, source: Source, networks: Networks, difference: float | None) -> None:
    """Write MODEL_CARD.md into the folder of an export.

    Args:
        folder: of the export.
        source: the run and the model.
        networks: the model's networks.
        difference: the largest between torch and model.onnx; None where there is no such file.
    """
    run, number = _as_run(networks), len(networks.members)
    several = f"{number} networks, whose probabilities are averaged" if number > 1 else "a network"
    made = read_json(source.folder / run_directory.ENVIRONMENT)
    has_protocol = (source.folder / run_directory.PROTOCOL).exists()
    files = "\n".join([FILES, *([PROTOCOL] if has_protocol else [])]) + NAMES
    if difference is not None:
        size = networks.config.data.image_size
        files += "\n\n" + ONNX.format(size=size, difference=difference)
    sections = {
        "Files": files,
        "Use": "```\npython -m busi_tune.predict --run THIS_FOLDER --images NEW --out PREDICTED\n"
        f"```\n\nA pixel is lesion from a probability of {networks.config.training.threshold:g}.",
        "Images": describe_images(source, networks.config),
        "Networks": f"Of {number} alike: {recipes.describe_models(run)} each.{_unlike(networks)}",
        "Preparation": recipes.describe_preparation(run),
        "Training": recipes.describe_training(run),
        "Scores": describe_scores(source),
        "Intended use": USE,
        "Limits": LIMITS,
    }
    head = (
        f"# {source.model}\n\nSegmentation of lesions in breast-ultrasound images by {several}. "
        f"Made by busi_tune {made['packages']['busi_tune']}, commit {made['commit']}."
    )
    text = "\n\n".join([head, *(f"## {title}\n\n{body}" for title, body in sections.items())])
    (folder / CARD).write_text(text + "\n")


def _as_run(networks: Networks) -> KfoldRun:
    """Describe the networks as the run of a single model, for the sentences of its methods."""
    config = override(networks.config, {"kfold.models": {}, "kfold.search": {}})
    member = next(iter(networks.members.values()))
    row = {
        "model": config.model.architecture,
        "status": "finished",
        "num_parameters": num_parameters(member.model),
        "best_value": None if config.data.split == "all" else 0.0,
    }
    return KfoldRun(Path(), config, pd.DataFrame([row]), pd.DataFrame(), pd.DataFrame())


def _unlike(networks: Networks) -> str:
    """Say where the networks are not alike."""
    kinds = [
        {name: value for name, value in flatten(member.config).items() if _describes(name)}
        for member in networks.members.values()
    ]
    if all(kind == kinds[0] for kind in kinds):
        return ""
    return (
        " A search inside each fold chose settings of its own; these are the first network's, the "
        "others are in the metadata of the weights."
    )


def _describes(name: str) -> bool:
    return name.split(".")[0] in MODEL_SECTIONS


def describe_images(source: Source, config: Config) -> str:
    """Say which images trained, how many, and what their splits promise."""
    splits = read_json(source.folder / run_directory.SPLITS)["splits"]
    trained = sorted({len(parts["train"]) for parts in splits.values()})
    made = read_json(source.folder / run_directory.ENVIRONMENT)
    protocol = source.folder / run_directory.PROTOCOL
    counts = read_json(protocol)["data"]["images_per_class"] if protocol.exists() else {}
    classes = ", ".join(f"{number} {label}" for label, number in counts.items())
    spread = f"{trained[0]} to {trained[-1]}" if len(trained) > 1 else str(trained[0])
    kind = "images" if config.data.root else "synthetic images, so it is of no use on real ones"
    listed = f" ({classes})" if classes else ""
    found = config.data.groups if config.data.groups in ("auto", "none") else "csv"
    return (
        f"The run had {made['num_images']} {kind}{listed}, of which {spread} trained a network. "
        f"{GROUPS[found]} SHA-256 of names, classes and contents: `{made['data_hash']}`."
    )


def describe_scores(source: Source) -> str:
    """Give the run's own scores of the model with their intervals, or say that there are none."""
    tables = source.folder / run_directory.TABLES
    models, tested = tables / "models.csv", tables / "closed_test.csv"
    if models.exists():
        rows = pd.read_csv(models, dtype={"model": str}).set_index("model").loc[[source.model]]
        several = len(source.weights) > 1
        text = (
            "Each network on the images of its fold, which it had not seen. Their average, which "
            "this export is, was scored on no image so far."
            if several
            else "On the test part, which took no part in training."
        )
        chosen = rows["chosen_here"].any()
        flattered = " The settings were chosen on these images, which flatters." if chosen else ""
        return f"{_table(rows, text + flattered)}\n\n{_false_lesions(rows)}"
    if tested.exists():
        rows = pd.read_csv(tested, dtype={"model": str}).set_index("model")
        if source.model in rows.index:
            text = "On the closed test part of the search, looked at once, the mean over networks."
            return _table(rows.loc[[source.model]], text)
    return (
        "None: the run has no table of scores of this model. What to expect of it, a "
        "cross-validation of the same settings tells."
    )


def _table(rows: pd.DataFrame, text: str) -> str:
    measured = [name for name in SCORES if f"{name}_mean" in rows]
    measured += ["dice"] if not measured and "dice_mean" in rows else []
    shown = pd.DataFrame(
        {"Images": row["images"], "n": f"{row['num_images']:.0f}"}
        | {SCORES[name]: _estimate(row, name) for name in measured}
        for _, row in rows[rows["images"] != "normal"].iterrows()
    )
    table = to_markdown(Table("", shown))
    return f"{text} Means over images with 95 % intervals over groups. {EMPTY_RULE}\n\n{table}"


def _estimate(row: "pd.Series[float]", name: str) -> str:
    return MISSING if pd.isna(row[f"{name}_mean"]) else format_estimate(row, name)


def _false_lesions(rows: pd.DataFrame) -> str:
    normal = rows[rows["images"] == "normal"].iloc[0]
    if not normal["num_images"]:
        return "There were no normal images to find false lesions in."
    return (
        f"Normal images in which a lesion was marked: {_estimate(normal, 'false_lesion')} of "
        f"{normal['num_images']:.0f}."
    )
