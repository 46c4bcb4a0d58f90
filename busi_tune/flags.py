"""From flags and YAML files to settings: the parser, and what a person wrote, checked."""

import argparse
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

from busi_tune.config import Config
from busi_tune.named_files import locate_known, locate_weights
from busi_tune.settings import (
    CHOICES,
    FIELDS,
    LISTS,
    TYPES,
    check_config,
    dotted,
    from_dict,
    nested,
    override,
    refuse_choice,
    unknown_field,
)
from busi_tune.yaml_files import read_yaml

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows types and defaults, and keeps the lines of the description."""


def build_parser(name: str, description: str, compares_models: bool) -> ArgumentParser:
    """Build a command's parser: its own flags, and one for every setting."""
    parser = ArgumentParser(
        prog=f"python -m busi_tune.{name}",
        usage="%(prog)s [--config FILE] [--SECTION.SETTING VALUE ...] [--run_dir DIR] "
        "[--resume DIR] [--dry_run]",
        description=description,
        exit_on_error=False,
        print_config=None,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; flags go over it")
    parser.add_argument(
        "--print_config", action="store_true", help="print the resolved configuration and stop"
    )
    parser.add_argument("--run_dir", default=None, help="folder of the run; must not exist yet")
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.add_argument("--resume", default=None, metavar="DIR", help="go on with that run")
    parser.add_argument("--dry_run", action="store_true", help="show the plan, start nothing")
    if compares_models:
        parser.add_argument(
            "--models", nargs="+", default=None, metavar="FILE", help="YAML files to compare"
        )
    parser.add_class_arguments(Config, None)
    return parser


def parse_flags(parser: ArgumentParser, flags: Sequence[str]) -> Any:
    """Parse flags, spelled with dashes or underscores; `--config` files come first.

    Raises:
        ValueError: an unknown setting, in a flag or a file, or a value of the wrong type.
    """
    flags = _spell(flags)
    _refuse_unknown(parser, flags)
    files, others = _take_configs(flags)
    contents = [yaml.safe_dump(nested(_load_typed(Path(file)))) for file in files]
    try:
        return parser.parse_args(
            [*(f"--config={content}" for content in contents), *_spell_lists(others)]
        )
    except argparse.ArgumentError as error:
        raise ValueError(_one_line(error)) from error


def to_config(namespace: Any) -> Config:
    """Take the configuration out of what was parsed."""
    values = namespace.as_dict()
    return from_dict({name: values[name] for name in Config.__dataclass_fields__})


def load_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings as dotted names.

    Raises:
        ValueError: the file is missing, is no YAML mapping, names an unknown setting or one twice.
    """
    try:
        content = read_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read settings from {path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings: write `section: {{name: value}}` lines")
    try:
        return _split_lists(dotted(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _load_typed(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings as dotted names, with values of the settings' types."""
    content = load_settings(path)
    try:
        return locate_known(locate_weights(typed(content)), path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_models(files: Sequence[Path], flags: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the files to compare; a setting that is also given as a flag is the flag's."""
    given = given_settings(flags)
    return {
        name: {k: v for k, v in locate_weights(load_settings(file)).items() if k not in given}
        for name, file in zip(name_files(files, "--models"), files, strict=True)
    }


def name_files(files: Sequence[Path], setting: str) -> list[str]:
    """Name files by their stem or, where that is not enough, by their folder too.

    Raises:
        ValueError: two files have one name; says the setting that lists them.
    """
    stems = [file.stem for file in files]
    names = [
        file.stem if stems.count(file.stem) == 1 else f"{file.absolute().parent.name}-{file.stem}"
        for file in files
    ]
    if len(set(names)) < len(names):
        raise ValueError(f"{setting}: two files have the same name: {', '.join(map(str, files))}")
    return names


def given_settings(flags: Sequence[str]) -> set[str]:
    """Return the names of the settings that are given as flags."""
    return {flag[2:].partition("=")[0] for flag in _spell(flags) if flag.startswith("--")}


def source_of_setting(name: str, flags: Sequence[str]) -> str:
    """Return the last `--config` file that names a setting; empty where a flag or none does."""
    if name not in given_settings(flags):
        for file in reversed(_take_configs(_spell(flags))[0]):
            if name in load_settings(Path(file)):
                return file
    return ""


def file_of_setting(name: str, value: str, flags: Sequence[str]) -> Path:
    """Locate a file that a setting names: relative to the `--config` file that does, if one does.

    Args:
        name: the setting.
        value: the path as it was written.
        flags: the command line.
    """
    source = source_of_setting(name, flags)
    return Path(source).parent / value if source else Path(value)


def typed_override(config: Config, settings: dict[str, Any], source: str) -> Config:
    """Replace settings that a person wrote, checked like flags.

    Raises:
        ValueError: a setting is unknown, of the wrong type or breaks a rule; names the source.
    """
    try:
        result = override(config, typed(settings))
        check_config(result)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return result


def typed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Bring values that a person wrote to the types of their settings.

    Raises:
        ValueError: a setting is unknown or of the wrong type.
    """
    flat = _split_lists(dotted(settings))
    try:
        parsed = _settings_parser(frozenset(flat)).parse_object(nested(flat)).as_dict()
    except argparse.ArgumentError as error:
        raise ValueError(_one_line(error)) from error
    return {name: _at(parsed, name) for name in flat}


@functools.cache
def _settings_parser(names: frozenset[str]) -> ArgumentParser:
    """Make a parser of these settings alone: one of all takes eighty times as long."""
    parser = ArgumentParser(exit_on_error=False)
    for name in sorted(names):
        parser.add_argument(f"--{name}", type=TYPES[name])
    return parser


def _spell(arguments: Sequence[str]) -> list[str]:
    """Take dashes for underscores in the names of flags."""
    spelled = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            argument = "--" + name[2:].replace("-", "_") + equals + value
        spelled.append(argument)
    return spelled


def _spell_lists(flags: Sequence[str]) -> list[str]:
    """Write the values of flags that are lists as YAML."""
    spelled: list[str] = []
    is_value = False
    for flag in flags:
        name, equals, value = flag.partition("=")
        if is_value and not flag.startswith("--"):
            flag = json.dumps(_split(flag))
        elif equals and name[2:] in LISTS:
            flag = f"{name}={json.dumps(_split(value))}"
        is_value = not equals and name[2:] in LISTS
        spelled.append(flag)
    return spelled


def _split_lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _split(value) if name in LISTS and isinstance(value, str) else value
        for name, value in settings.items()
    }


def _split(text: str) -> Any:
    """Read a list as it is written on a command line: `a`, `a,b` or `[a, b]`."""
    if text.startswith("[") or text == "null":
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text  # is refused as no list
    return [part.strip() for part in text.split(",") if part.strip()]


def _take_configs(flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the files of `--config` from the other flags."""
    files: list[str] = []
    others: list[str] = []
    rest = iter(flags)
    for flag in rest:
        if flag == "--config":
            files.append(next(rest, ""))
        elif flag.startswith("--config="):
            files.append(flag.partition("=")[2])
        else:
            others.append(flag)
    return files, others


def _refuse_unknown(parser: ArgumentParser, flags: Sequence[str]) -> None:
    known = {option[2:] for action in parser._actions for option in action.option_strings}
    for flag in flags:
        name = flag[2:].partition("=")[0]
        if flag.startswith("--") and name and name not in known and name.rstrip("+") not in known:
            raise ValueError(unknown_field(name, FIELDS | known))


def _at(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _one_line(error: BaseException) -> str:
    line = " ".join(str(error).split())
    found = re.search(r'Parser key "([\w.]+)": .*Got value: (.*)', line)
    if found and found[1] in CHOICES:
        return refuse_choice(*found.groups())
    if found and found[1] == "search.space":
        return (
            f"search.space maps settings to what they can be, not {found[2]}: write lines such as "
            "`optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}` below it"
        )
    return line
