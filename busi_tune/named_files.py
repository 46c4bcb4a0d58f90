"""The files that settings name, made independent of the folder in which a command is typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from busi_tune.config import Config
from busi_tune.remote.address import is_remote

REPORT = "report"
"""The word among known configurations that stands for the report's models."""
_KNOWN = ("search.start", "search.baselines")
_WEIGHTS = "model.encoder_weights"
_WORDS = ("none", "imagenet")


def make_absolute(config: Config) -> None:
    """Make the folders and files of a configuration independent of where `--resume` is typed."""
    data, search, model = config.data, config.search, config.model
    data.root = data.root and str(Path(data.root).absolute())
    data.cache_dir = data.cache_dir and str(Path(data.cache_dir).absolute())
    if config.storage and not is_remote(config.storage):
        config.storage = str(Path(config.storage).absolute())
    if Path(data.groups).is_file():
        data.groups = str(Path(data.groups).absolute())
    search.start, search.baselines = (_locate(f, Path()) for f in (search.start, search.baselines))
    model.encoder_weights = _locate_weights(model.encoder_weights)
    search.space = _locate_in_space(search.space)
    for settings in config.kfold.models.values():
        for section, name in ((settings, _WEIGHTS), (settings.get("model"), "encoder_weights")):
            if isinstance(section, dict) and name in section:
                section[name] = _locate_weights(section[name])


def locate_known(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make known configurations absolute: those that a file names are relative to its folder.

    Args:
        settings: of the file, by their dotted names.
        folder: the file's.
    """
    return {
        name: _locate(value, folder) if name in _KNOWN else value
        for name, value in settings.items()
    }


def _locate(words: Sequence[str], folder: Path) -> list[str]:
    """Make a list of files absolute; the word report stays."""
    return [word if word == REPORT else str((folder / word).absolute()) for word in words]


def locate_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make files of weights absolute, in settings by their dotted names and in their space.

    They are relative to the current folder.
    """
    located = dict(settings)
    if _WEIGHTS in located:
        located[_WEIGHTS] = _locate_weights(located[_WEIGHTS])
    if isinstance(located.get("search.space"), Mapping):
        located["search.space"] = _locate_in_space(located["search.space"])
    return located


def _locate_in_space(space: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _locate_in_entry(name, entry) for name, entry in space.items()}


def _locate_in_entry(name: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return _locate_weights(entry) if name == _WEIGHTS else entry
    located = dict(entry)
    for key in ("choices", "value") if name == _WEIGHTS else ():
        if key in located:
            located[key] = _locate_weights(located[key])
    when = located.get("when")
    if isinstance(when, Mapping) and _WEIGHTS in when:
        located["when"] = {**when, _WEIGHTS: _locate_weights(when[_WEIGHTS])}
    return located


def _locate_weights(value: Any) -> Any:
    """Make a file of weights absolute, or those of a list; other words stay."""
    if isinstance(value, list):
        return [_locate_weights(each) for each in value]
    is_word = not isinstance(value, str) or value in _WORDS or value.startswith("package:")
    is_file = not is_word and Path(value).is_file()
    return str(Path(value).absolute()) if is_file else value
