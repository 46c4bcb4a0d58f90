"""What the command lines share: flags, --help, logging, and errors as one message and a code."""

import logging
import math
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from types import FrameType

from jsonargparse import ArgumentParser

from busi_tune import run_directory
from busi_tune.config import Config
from busi_tune.config_jobs import SearchConfig
from busi_tune.flags import build_parser, load_models, parse_flags, source_of_setting, to_config
from busi_tune.full_disk import describe_full_disk, find_full_disk
from busi_tune.kfold_models import load_search, resolve_search, take_images_of_models
from busi_tune.named_files import make_absolute
from busi_tune.remote.address import is_remote
from busi_tune.run_directory import read_json, refuse_existing
from busi_tune.search_rules import read_duration
from busi_tune.settings import FIELDS, check_config, differences, to_yaml

DONE, SOME_FAILED, BAD_INPUT, CLUSTER_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
DEMO = Path(__file__).with_name("demo.yaml")

# What a resumed run may change: how far it goes and on what it runs, never what it computes.
RESUMABLE = frozenset(
    {"search.num_trials", "search.budget", "search.target", "data.root", "data.cache_dir"}
    | {name for name in FIELDS if name.startswith("resources.") and name != "resources.num_workers"}
)


class ClusterError(RuntimeError):
    """The cluster cannot run what was asked, or was lost."""


@dataclass
class Command:
    """A command line: its name, what it says of itself and which flags it has beside settings."""

    name: str
    description: str
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
    space_source: str = ""
    """The file that the search space comes from; empty where it is the defaults'."""


def parse(command: Command, arguments: Sequence[str]) -> Options:
    """Read flags and files into a checked configuration.

    Raises:
        ValueError: an unknown setting, a value of the wrong type or a broken rule.
    """
    parser = build_parser(command.name, command.description, command.compares_models)
    chosen = parse_flags(parser, arguments)
    resume = _find_run(chosen.resume) if chosen.resume else None
    demo = not resume and not chosen.config and chosen.data.root is None
    if resume:
        if chosen.run_dir or (command.compares_models and chosen.models):
            raise ValueError("--resume goes on with a run as it is: leave --run_dir, --models out")
        config = _resumed(command, parser, resume, arguments)
    else:
        if demo:
            chosen = parse_flags(parser, ["--config", str(DEMO), *arguments])
        config = to_config(chosen)
        if command.compares_models and chosen.models:
            config.kfold.models = load_models([Path(file) for file in chosen.models], arguments)
            config = take_images_of_models(config, arguments)
    search_source = load_search(config, arguments)
    check_config(config)
    resolve_search(config, search_source)
    make_absolute(config)
    default = Path("runs") / f"{command.name}-{datetime.now():%Y%m%d-%H%M%S}"
    run_dir = resume or Path(chosen.run_dir or default)
    if not resume and not chosen.dry_run and not chosen.print_config:
        refuse_existing(run_dir)
    return Options(
        config=config,
        run_dir=run_dir.absolute(),
        resume=resume is not None,
        dry_run=chosen.dry_run,
        demo=demo,
        print_config=chosen.print_config,
        space_source=source_of_setting("search.space", arguments),
    )


def run_command(
    command: Command, body: Callable[[Options], int], arguments: Sequence[str] | None = None
) -> int:
    """Run a command's body; turn what goes wrong into one message and an exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    start_logging()
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
    except Exception as error:
        trace = traceback.format_exc()
        full = find_full_disk(error)
        if full is not None:
            place = options.run_dir if options else Path()
            message, code = f"error: {describe_full_disk(full, place)}", CLUSTER_FAILED
        elif isinstance(error, ClusterError):
            message, code = f"error: {error}", CLUSTER_FAILED
        elif isinstance(error, ValueError | OSError):
            message, code = f"error: {error}", BAD_INPUT
        else:
            raise
    started = options is not None and (options.run_dir / run_directory.CONFIG).exists()
    if options is not None and started and code != BAD_INPUT:
        message += f"; go on with: {resume_line(command.name, options.run_dir)}"
    if debug:
        print(trace, file=sys.stderr)
    print(f"busi_tune {command.name}: {message}", file=sys.stderr)
    return code


def start_logging() -> None:
    """Let this project's lines, and other libraries' warnings, go to the terminal as they are."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("busi_tune").setLevel(logging.INFO)


def resume_line(job: str, run_dir: Path) -> str:
    """Return the line to type to go on with a run."""
    return f"python -m busi_tune.{job} --resume {run_dir}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _find_run(resume: str) -> Path:
    """Return the directory of the run to resume, which is fetched where it lies in a storage."""
    if not is_remote(resume):
        return Path(resume)
    from busi_tune.remote.fetch import fetch_run

    return fetch_run(resume)


def _resumed(
    command: Command, parser: ArgumentParser, folder: Path, flags: Sequence[str]
) -> Config:
    stored = folder / run_directory.CONFIG
    if not stored.exists():
        raise ValueError(f"{folder} is no run directory: it has no {run_directory.CONFIG}")
    if not _is_whole(stored):
        raise ValueError(f"{stored} is damaged: it breaks off{run_directory.MEND}")
    environment = read_json(folder / run_directory.ENVIRONMENT)
    job = environment["job"]
    if job == run_directory.COMPARISON:
        first, *others = environment["compared"]
        line = shlex.join(["python", "-m", "busi_tune.report", first, "--compare", *others])
        raise ValueError(f"{folder} is made of finished runs; make it again by: {line}")
    if job != command.name:
        raise ValueError(f"{folder} is a run of {job}; go on with: {resume_line(job, folder)}")
    old = to_config(parse_flags(parser, ["--config", str(stored)]))
    new = to_config(parse_flags(parser, ["--config", str(stored), *flags]))
    load_search(new, flags)
    make_absolute(old)
    make_absolute(new)
    # The winners of nested searches are tested already: one that grew could choose another.
    fixed = {"search.num_trials"} if old.kfold.search else set()
    free = RESUMABLE if _has_trained(folder, old) else RESUMABLE | {"resources.num_workers"}
    changed = differences(old, new, ignore=free - fixed)
    if changed:
        raise ValueError(
            f"{folder} cannot go on with other settings; changed: {'; '.join(changed)}. "
            "Leave them as they were, or start a new run"
        )
    _refuse_less(old.search, new.search)
    return new


def _refuse_less(old: SearchConfig, new: SearchConfig) -> None:
    """Refuse a search that would end earlier than the trials of its first start."""
    if new.num_trials < old.num_trials:
        raise ValueError(
            f"search.num_trials may only grow on --resume: it was {old.num_trials}, "
            f"not {new.num_trials}"
        )
    before, now = (read_duration(each.budget) or math.inf for each in (old, new))
    if now < before:
        raise ValueError(
            f"search.budget may only grow on --resume: it was {old.budget or 'without limit'}, "
            f"not {new.budget}"
        )


def _has_trained(folder: Path, config: Config) -> bool:
    """Whether a run may have an epoch; else its trainings may still get other workers."""
    if config.storage and is_remote(config.storage):
        return True
    trainings = Path(config.storage or folder) / run_directory.TRAININGS
    return any(trainings.glob(f"*/{run_directory.EPOCHS}"))


def _is_whole(stored: Path) -> bool:
    """Tell whether a run's configuration has its last setting: a part could pass for all of it."""
    *_, last = (field.name for field in fields(Config))
    lines = stored.read_text().splitlines(keepends=True)
    return bool(lines) and lines[-1].startswith(f"{last}: ") and lines[-1].endswith("\n")
