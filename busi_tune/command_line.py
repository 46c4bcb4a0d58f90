"""What the command lines share: flags, --help, logging, and errors as one message and a code."""

import argparse
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.settings import (
    FIELDS,
    check_config,
    differences,
    dotted,
    from_dict,
    nested,
    override,
    to_yaml,
    unknown_field,
)

DONE, SOME_FAILED, BAD_INPUT, CLUSTER_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
DEMO = Path(__file__).with_name("demo.yaml")

# What a resumed run may change: how far it goes and on what it runs, never what it computes.
RESUMABLE = frozenset(
    {"search.num_trials", "data.root", "data.cache_dir", "storage"}
    | {name for name in FIELDS if name.startswith("resources.") and name != "resources.num_workers"}
)

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class ClusterError(RuntimeError):
    """The cluster cannot run what was asked, or was lost."""


@dataclass
class Command:
    """A command line: its name, what it says of itself and which flags it has beside settings."""

    name: str
    description: str
    resumable: bool = True
    has_demo: bool = True
    compares_models: bool = False


@dataclass
class Options:
    """What the user asked for."""

    config: Config
    run_dir: Path
    resume: bool
    dry_run: bool
    demo: bool
    print_config: bool


def parse(command: Command, arguments: Sequence[str]) -> Options:
    """Read flags and files into a checked configuration.

    Raises:
        ValueError: an unknown setting, a value of the wrong type or a broken rule.
    """
    parser = _build_parser(command)
    flags = _spell(arguments)
    _refuse_unknown(parser, flags)
    chosen = _parse(parser, flags)
    resume = Path(chosen.resume) if command.resumable and chosen.resume else None
    if resume:
        config = _resumed(parser, resume, flags)
        demo = False
    else:
        demo = command.has_demo and not chosen.config and chosen.data.root is None
        if demo:
            chosen = _parse(parser, ["--config", str(DEMO), *flags])
        config = _to_config(chosen)
        if command.compares_models and chosen.models:
            config.kfold.models = {Path(f).stem: load_settings(Path(f)) for f in chosen.models}
    check_config(config)
    default = Path("runs") / f"{command.name}-{datetime.now():%Y%m%d-%H%M%S}"
    run_dir = resume or Path(chosen.run_dir or default)
    dry_run = command.resumable and bool(chosen.dry_run)
    return Options(
        config, run_dir.absolute(), resume is not None, dry_run, demo, chosen.print_config
    )


def load_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings as dotted names.

    Raises:
        ValueError: the file is missing, is no YAML mapping or names an unknown setting.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read settings from {path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings: write `section: {{name: value}}` lines")
    try:
        return dotted(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def typed_override(config: Config, settings: dict[str, Any], source: str) -> Config:
    """Replace settings that a person wrote, checked like flags.

    Raises:
        ValueError: a setting is unknown, of the wrong type or breaks a rule; names the source.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Config, None)
    try:
        merged = override(config, settings)
        flat = {name: value for name, value in dotted(settings).items() if value is not None}
        parsed = parser.parse_object(nested(flat)).as_dict()
        result = override(merged, {name: _at(parsed, name) for name in flat})
        check_config(result)
    except (ValueError, argparse.ArgumentError) as error:
        raise ValueError(f"{source}: {_one_line(error)}") from error
    return result


def run_command(
    command: Command, body: Callable[[Options], int], arguments: Sequence[str] | None = None
) -> int:
    """Run a command's body; turn what goes wrong into one message and an exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    options: Options | None = None
    trace = ""
    try:
        options = parse(command, [a for a in arguments if a != "--debug"])
        if options.print_config:
            print(to_yaml(options.config), end="")
            return DONE
        return body(options)
    except KeyboardInterrupt:
        trace = traceback.format_exc()
        message, code = "interrupted", INTERRUPTED
        if options is not None and (options.run_dir / run_directory.CONFIG).exists():
            message += f"; go on with: {resume_line(command, options.run_dir)}"
    except ClusterError as error:
        trace = traceback.format_exc()
        message, code = f"error: {error}", CLUSTER_FAILED
    except (ValueError, OSError) as error:
        trace = traceback.format_exc()
        message, code = f"error: {error}", BAD_INPUT
    if debug:
        print(trace, file=sys.stderr)
    print(f"busi_tune {command.name}: {message}", file=sys.stderr)
    return code


def resume_line(command: Command, run_dir: Path) -> str:
    """Return the line to type to go on with a run."""
    return f"python -m busi_tune.{command.name} --resume {run_dir}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows types and defaults, and keeps the lines of the description."""


def _build_parser(command: Command) -> ArgumentParser:
    flags = "[--config FILE] [--SECTION.SETTING VALUE ...] [--run_dir DIR]"
    parser = ArgumentParser(
        prog=f"python -m busi_tune.{command.name}",
        usage=f"%(prog)s {flags}{' [--resume DIR] [--dry_run]' if command.resumable else ''}",
        description=command.description,
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
    if command.resumable:
        parser.add_argument("--resume", default=None, metavar="DIR", help="go on with that run")
        parser.add_argument("--dry_run", action="store_true", help="show the plan, start nothing")
    if command.compares_models:
        parser.add_argument(
            "--models", nargs="+", default=None, metavar="FILE", help="YAML files to compare"
        )
    parser.add_class_arguments(Config, None)
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


def _refuse_unknown(parser: ArgumentParser, flags: Sequence[str]) -> None:
    known = {option[2:] for action in parser._actions for option in action.option_strings}
    for flag in flags:
        name = flag[2:].partition("=")[0]
        if flag.startswith("--") and name and name not in known and name.rstrip("+") not in known:
            raise ValueError(unknown_field(name, FIELDS | known))


def _parse(parser: ArgumentParser, flags: Sequence[str]) -> Any:
    for position, flag in enumerate(flags):
        if flag == "--config" and position + 1 < len(flags):
            load_settings(Path(flags[position + 1]))
        elif flag.startswith("--config="):
            load_settings(Path(flag.partition("=")[2]))
    try:
        return parser.parse_args(list(flags))
    except argparse.ArgumentError as error:
        raise ValueError(_one_line(error)) from error


def _to_config(namespace: Any) -> Config:
    values = namespace.as_dict()
    return from_dict({name: values[name] for name in Config.__dataclass_fields__})


def _resumed(parser: ArgumentParser, folder: Path, flags: Sequence[str]) -> Config:
    stored = folder / run_directory.CONFIG
    if not stored.exists():
        raise ValueError(f"{folder} is no run directory: it has no {run_directory.CONFIG}")
    old = _to_config(_parse(parser, ["--config", str(stored)]))
    new = _to_config(_parse(parser, ["--config", str(stored), *flags]))
    changed = differences(old, new, ignore=RESUMABLE)
    if changed:
        raise ValueError(
            f"{folder} cannot go on with other settings; changed: {'; '.join(changed)}. "
            "Leave them as they were, or start a new run"
        )
    if new.search.num_trials < old.search.num_trials:
        raise ValueError(
            f"search.num_trials may only grow on --resume: it was {old.search.num_trials}, "
            f"not {new.search.num_trials}"
        )
    return new


def _at(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
