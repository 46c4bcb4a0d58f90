"""Known good configurations: those that a search tries first, and those it is compared with.

Both are named by YAML files and the word report, which stands for the report's three models.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from busi_tune import run_directory
from busi_tune.config import Config, ModelConfig
from busi_tune.flags import load_settings, name_files, typed_override
from busi_tune.kfold_models import MODEL_SECTIONS, is_model_name
from busi_tune.named_files import REPORT, locate_weights
from busi_tune.run_directory import set_aside, write_atomic
from busi_tune.search_space import Dimension, image_sizes, image_ways, is_active
from busi_tune.settings import dotted, flatten, from_dict, override

logger = logging.getLogger(__name__)

_REPORT_MODELS = Path(__file__).parents[1] / "report_models.yaml"

# What a network is made from; the other model settings are another architecture's.
_MADE_FROM = {
    "report_cnn": ("dropout",),
    "unet": ("base_width",),
    "attention_unet": ("base_width",),
}
_WITH_ENCODER = ("encoder", "encoder_weights")
_DECODER_OPTIONS = ("decoder_dropout", "decoder_attention", "deep_supervision")

# A baseline has the budget of the search, and is ranked and run as all of it is.
_OF_THE_SEARCH = ("epochs", "max_seconds", "monitor", "device")


@dataclass(frozen=True)
class Known:
    """The known configurations of a search."""

    starts: Sequence[Mapping[str, Any]]
    """The searched settings of those tried first."""
    baselines: Mapping[str, Config]
    """Those refitted beside the winner, by name."""
    chosen_on: frozenset[str] = frozenset()
    """Names of the images on which some of them were chosen."""


def read_known(config: Config, space: Sequence[Dimension], run_dir: Path) -> Known:
    """Read the known configurations as they were when the run began, or else from their files."""
    kept = _read_kept(run_dir / run_directory.KNOWN)
    if kept is not None:
        for baseline in kept.baselines.values():  # where it runs is the resumed run's
            baseline.resources, baseline.storage = config.resources, config.storage
            baseline.data.root, baseline.data.cache_dir = config.data.root, config.data.cache_dir
        return kept
    starts, baselines = find_starts(config, space), read_baselines(config)
    words = {*config.search.start, *config.search.baselines} - {REPORT}
    seen = (load_settings(Path(word)).get("data.chosen_on", ()) for word in words)
    chosen_on = frozenset(name for names in seen for name in names)
    return Known(starts, baselines, chosen_on)


def _read_kept(path: Path) -> Known | None:
    """Read what `keep_known` wrote; None where it is damaged or not there."""
    try:
        kept = yaml.safe_load(path.read_text())
        baselines = {name: from_dict(settings) for name, settings in kept["baselines"].items()}
        return Known(kept["starts"], baselines, frozenset(kept["chosen_on"]))
    except (FileNotFoundError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        return None


def keep_known(known: Known, run_dir: Path) -> None:
    """Write the known configurations down: their files may change while the run lasts.

    A damaged record is set aside, so the run's lock is to be held.
    """
    path = run_dir / run_directory.KNOWN
    if path.exists() and _read_kept(path) is None:
        set_aside(path, "is damaged")
    if not path.exists():
        baselines = {name: asdict(config) for name, config in known.baselines.items()}
        kept = {
            "starts": [dict(start) for start in known.starts],
            "baselines": baselines,
            "chosen_on": sorted(known.chosen_on),
        }
        write_atomic(path, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))


def find_starts(config: Config, space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Return the searched settings of the configurations that a search tries first.

    A configuration lies in the space if its network can be had there and each searched setting can
    have its value; settings that it does not name are the search's. What the space leaves alone is
    the search's too: a file that says otherwise is tried all the same, and the difference logged.
    Of the report's models those that do not lie in the space, or whose weights would have to be
    downloaded, are left out, which is logged.

    Raises:
        ValueError: a file that cannot be read or does not lie in the space.
    """
    starts: list[dict[str, Any]] = []
    for word in config.search.start:
        found = (
            _find_report_starts(config, space)
            if word == REPORT
            else [_read_start(Path(word), config, space)]
        )
        starts += [start for start in found if start not in starts]
    return starts


def read_baselines(config: Config) -> dict[str, Config]:
    """Return the configurations that a search is compared with, by name.

    Network, loss, optimiser, augmentation and training are a baseline's own, the rest is the
    search's, with it epochs and max_seconds: all are trained on the same budget.

    Raises:
        ValueError: a file that cannot be read, breaks a rule, has another's name or wants images
            of a size or data.resize that the search does not have.
    """
    words = config.search.baselines
    files = [Path(word) for word in words if word != REPORT]
    names = dict(zip(files, name_files(files, "search.baselines"), strict=True))
    baselines: dict[str, Config] = {}
    for word in words:
        if word == REPORT:
            found = _find_report_baselines(config)
        else:
            name, settings = names[Path(word)], _load_file(Path(word), "search.baselines")
            found = {name: _resolve_baseline(config, settings, word)}
            if not is_model_name(name):
                raise ValueError(
                    f"{word}: name the file by letters, digits, spaces and _ . + - only"
                )
            if re.fullmatch(r"trial \d+", name):
                raise ValueError(f"{word}: a trial of the search has this name; rename the file")
        double = sorted(set(found) & set(baselines))
        if double:
            raise ValueError(f"search.baselines: {double[0]} stands twice; rename or drop a file")
        baselines |= found
    return baselines


def load_report_models() -> dict[str, dict[str, Any]]:
    """Return the settings of the report's models, by name."""
    content = yaml.safe_load(_REPORT_MODELS.read_text())
    return {name: dotted(settings) for name, settings in content.items()}


def place_start(start: Config, config: Config, space: Sequence[Dimension]) -> dict[str, Any]:
    """Return what a trial that tries a configuration sets, constants of the space included.

    Raises:
        ValueError: the configuration does not lie in the space; says the setting and its value.
    """
    values, placed = flatten(start), dict[str, Any]()
    for dimension in space:
        if is_active(dimension, placed):
            value = values[dimension.name]
            if not dimension.allows(value):
                raise ValueError(
                    f"{dimension.name} is {value}, in the space it is {dimension.describe()}"
                )
            placed[dimension.name] = value
    tried = flatten(override(config, placed))
    for name in _network_settings(start.model):
        if tried[name] != values[name]:
            raise ValueError(
                f"{name} is {values[name]}, the search leaves it at {tried[name]} for such a model"
            )
    return placed


def _network_settings(model: ModelConfig) -> list[str]:
    used = _MADE_FROM.get(model.architecture, _WITH_ENCODER)
    return [f"model.{name}" for name in ("architecture", *used, *_DECODER_OPTIONS)]


def _searched(placed: Mapping[str, Any], space: Sequence[Dimension]) -> dict[str, Any]:
    constants = {dimension.name for dimension in space if dimension.is_constant}
    return {name: value for name, value in placed.items() if name not in constants}


def _find_report_starts(config: Config, space: Sequence[Dimension]) -> list[dict[str, Any]]:
    starts, left_out = {}, []
    for name, settings in load_report_models().items():
        start = override(config, settings)
        try:
            placed = place_start(start, config, space)
            _refuse_download(start.model)
        except ValueError as error:
            left_out.append(f"{name} ({error})")
        else:
            starts[name] = _searched(placed, space)
    _log_report("tried first", list(starts), left_out)
    return list(starts.values())


def _find_report_baselines(config: Config) -> dict[str, Config]:
    baselines, left_out = {}, []
    for name, settings in load_report_models().items():
        baseline = _resolve_baseline(config, settings, f"the report's {name}")
        try:
            _refuse_download(baseline.model)
        except ValueError as error:
            left_out.append(f"{name} ({error})")
        else:
            baselines[name] = baseline
    _log_report("compared with the winner", list(baselines), left_out)
    return baselines


def _log_report(use: str, names: Sequence[str], left_out: Sequence[str]) -> None:
    logger.info(
        "of the report's models %s: %s%s",
        use,
        ", ".join(names) or "none",
        f"; left out: {'; '.join(left_out)}" if left_out else "",
    )


def _refuse_download(model: ModelConfig) -> None:
    if model.encoder_weights != "none":
        from busi_tune.models.weights import refuse_download

        refuse_download(model.encoder, model.encoder_weights)


def _load_file(path: Path, setting: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"{setting}: there is no file {path}; name a YAML file or the word {REPORT}"
        )
    return locate_weights(load_settings(path))


def _read_start(path: Path, config: Config, space: Sequence[Dimension]) -> dict[str, Any]:
    settings = _own_settings(_load_file(path, "search.start"))
    if not settings:
        raise ValueError(f"{path}: a start names model, training or other settings of the space")
    start = typed_override(config, settings, str(path))
    try:
        placed = place_start(start, config, space)
    except ValueError as error:
        raise ValueError(
            f"{path} does not lie in search.space: {error}; change the file or the space"
        ) from error
    tried, wanted = flatten(typed_override(config, placed, str(path))), flatten(start)
    other = [
        f"{name} {tried[name]} (there {wanted[name]})"
        for name in settings
        if name not in placed and not name.startswith("model.") and tried[name] != wanted[name]
    ]
    if other:
        logger.info("start %s is tried with the search's own %s", path, ", ".join(other))
    return _searched(placed, space)


def _resolve_baseline(config: Config, settings: Mapping[str, Any], source: str) -> Config:
    own = _own_settings(settings)
    for name in _OF_THE_SEARCH:
        own.pop(f"training.{name}", None)
    sizes = image_sizes(config)
    if own.get("data.image_size", sizes[0]) not in sizes:
        raise ValueError(
            f"{source} was made for images of {own['data.image_size']} pixels, the search has "
            f"{', '.join(map(str, sizes))}: compare at a size of the search"
        )
    ways = image_ways(config)
    if own.get("data.resize", ways[0]) not in ways:
        raise ValueError(
            f"{source} was made for images of data.resize {own['data.resize']}, the search has "
            f"{', '.join(ways)}: compare at that of the search"
        )
    if "data.chosen_on" in settings:
        own["data.chosen_on"] = settings["data.chosen_on"]
    return typed_override(config, own, source)


def _own_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Take what a model may set for itself out of a file."""
    return {
        name: value
        for name, value in settings.items()
        if name.partition(".")[0] in MODEL_SECTIONS or name in ("data.image_size", "data.resize")
    }
