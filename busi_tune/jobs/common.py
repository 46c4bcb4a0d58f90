"""What search, kfold and train do alike: load, split, open the run directory, place trainings."""

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from busi_tune import run_directory
from busi_tune.command_line import DONE, SOME_FAILED, ClusterError, Options
from busi_tune.config import Config
from busi_tune.data.cache import Form, ImageSet, find_root, load_images
from busi_tune.data.exclusions import find_excluded
from busi_tune.data.phases import Phases
from busi_tune.data.splits import Split, load_splits, name_parts, save_splits
from busi_tune.jobs.console import print_lines, print_rows
from busi_tune.plan import Plan, Training, read_outcome
from busi_tune.remote.address import is_remote
from busi_tune.remote.run import StoredRun
from busi_tune.results.gather import gather_run
from busi_tune.results.protocol import describe_run
from busi_tune.results.write import console_lines, console_rows, write_results
from busi_tune.run_directory import environment_record, locked, read_json, write_atomic, write_json
from busi_tune.settings import override, to_yaml, training_key
from busi_tune.trackers import Observer, Observers

logger = logging.getLogger(__name__)


def check_models(models: Mapping[str, Config]) -> None:
    """Refuse networks that cannot be built, before anything starts."""
    from busi_tune.models import check_model

    for name, config in models.items():
        try:
            check_model(config.model, config.data.image_size)
        except ValueError as error:
            raise ValueError(f"model {name}: {error}") from error


def _check_ray(options: Options, command: str) -> None:
    """Refuse what needs Ray where it is not installed."""
    workers = options.config.resources.num_workers
    needs_none = options.dry_run or (command == "train" and workers == 1)
    if not needs_none and importlib.util.find_spec("ray") is None:
        wish = f"resources.num_workers {workers}" if command == "train" else command
        raise ValueError(
            f"{wish} needs Ray, which is not installed: pip install 'ray[default,tune,train]'; "
            "only train with resources.num_workers 1 needs none"
        )


def is_chosen_here(config: Config, split: Split, images: ImageSet) -> bool:
    """Whether a search chose the configuration on some of the images that will test it."""
    return not set(config.data.chosen_on).isdisjoint(images.names[i] for i in split.test)


def load_run_images(options: Options, command: str) -> ImageSet:
    """Check that the command can run, check and decode the images, and say which they are."""
    _check_ray(options, command)
    data = options.config.data
    if data.split == "all" and command != "train":
        logger.info("data.split all is train's: %s makes splits of its own", command)
    if data.root is None:
        logger.info(
            "No data given: %s synthetic images. For your own: python -m busi_tune.%s --data.root "
            "FOLDER",
            "the packaged demo on" if options.demo else "training on",
            command,
        )
    with Phases() as progress:
        images = load_images(data, progress)
    counts = {label: images.labels.count(label) for label in sorted(set(images.labels))}
    listed = ", ".join(f"{number} {label}" for label, number in counts.items())
    logger.info("%d images (%s) at %d pixels", len(images), listed, images.image_size)
    return images


def images_at(config: Config, images: ImageSet) -> ImageSet:
    """Return the images of a run in the size and way of resizing of one of its configurations.

    Raises:
        ValueError: the folder has changed since the others were decoded.
    """
    if images.form == (config.data.image_size, config.data.resize):
        return images
    with Phases() as progress:
        other = load_images(config.data, progress)
    if (other.data_hash, other.groups) != (images.data_hash, images.groups):
        raise ValueError(
            f"{config.data.root} has changed while its images were decoded; start again"
        )
    return other


@contextlib.contextmanager
def open_run(
    command: str,
    options: Options,
    images: ImageSet,
    make_splits: Callable[[], dict[str, Split]],
    storage: StoredRun | None = None,
) -> Iterator[dict[str, Split]]:
    """Make the run directory, or take up the one to resume; hold its lock and give its splits.

    Where the run has a storage, it is in there before anything is trained, and as a whole once
    everything is done.

    Raises:
        ValueError: the directory exists, or the images are not those it was made with.
        TimeoutError: another process works in it.
    """
    from busi_tune.training.mend import mend_trainings

    run_dir, config = options.run_dir, options.config
    if not options.resume:
        splits = make_splits()

        def fill(folder: Path) -> None:
            write_atomic(folder / run_directory.CONFIG, to_yaml(config))
            environment = environment_record(command, images.data_hash, len(images))
            write_json(folder / run_directory.ENVIRONMENT, environment)
            save_splits(folder / run_directory.SPLITS, splits, images, config.seed)
            if command != "search":
                save_protocol(folder, config, images, splits)

        run_directory.create(run_dir, fill)
    with locked(run_dir):
        run_directory.remove_scraps(run_dir)
        if options.resume:
            splits = load_splits(run_dir / run_directory.SPLITS, images)
            if command != "search" and not (run_dir / run_directory.PROTOCOL).exists():
                save_protocol(run_dir, config, images, splits)
        mend_trainings(trainings_folder(config, run_dir))
        logger.info("run directory: %s", run_dir)
        if storage is not None:
            storage.fetch_results() if options.resume else storage.begin()
        yield splits
        if storage is not None:
            storage.push(whole=True)


def save_protocol(
    folder: Path, config: Config, images: ImageSet, splits: Mapping[str, Split]
) -> None:
    """Write down which images are tested by which trainings, and how they are scored."""
    excluded = find_excluded(find_root(config.data), config.data.classes, images.names)
    versions = read_json(folder / run_directory.ENVIRONMENT)["packages"]
    protocol = describe_run(config, images, splits, excluded, versions)
    write_json(folder / run_directory.PROTOCOL, protocol)


def place_training(
    name: str,
    identity: Mapping[str, Any],
    config: Config,
    split_name: str,
    split: Split,
    images: ImageSet,
    run_dir: Path,
) -> Training:
    """Give a training its folder, named by everything that decides its result."""
    weights = Path(config.model.encoder_weights)
    if weights.is_file():
        # A worker's current folder is another one.
        config = override(config, {"model.encoder_weights": str(weights.absolute())})
    key = training_key(config, images.data_hash, name_parts(split, images))
    folder = trainings_folder(config, run_dir) / key
    return Training(name, {**identity, "key": key}, config, split_name, folder)


def trainings_folder(config: Config, run_dir: Path) -> Path:
    """Return the folder of the trainings' folders, as this machine has it."""
    storage = None if is_remote(config.storage) else config.storage
    base = Path(storage).absolute() if storage else run_dir
    return base / run_directory.TRAININGS


def open_storage(options: Options) -> StoredRun | None:
    """Return the run's place in a storage that is no folder; None where there is none.

    Raises:
        ValueError: the storage cannot be used; found within seconds, before anything starts.
    """
    config = options.config
    if config.storage is None or not is_remote(config.storage):
        return None
    storage = StoredRun(config.storage, options.run_dir, config.resources.wait_seconds)
    storage.check(options.resume)
    return storage


def refuse_other_code(run_dir: Path, trainings: Sequence[Training]) -> None:
    """Keep other code from trainings that are open, before a plan forgets how they failed.

    Raises:
        ValueError: some are, and the code is not what the run was begun with.
    """
    if not all((training.folder / run_directory.RESULT).exists() for training in trainings):
        run_directory.check_code(run_dir)


def take_up(run_dir: Path, plan: Plan, config: Config) -> None:
    """Note the configuration with which a run goes on, unless other code would train what is open.

    Raises:
        ValueError: it would.
    """
    if plan.num_open():
        run_directory.check_code(run_dir)
    write_atomic(run_dir / run_directory.CONFIG, to_yaml(config))


def run_on_cluster(
    plan: Plan,
    images: ImageSet | Mapping[Form, ImageSet],
    splits: Mapping[str, Split],
    config: Config,
    run: str,
    earlier: Sequence[Training] = (),
    seconds_left: float | None = None,
    trackers: Sequence[Observer] = (),
    storage: StoredRun | None = None,
) -> None:
    """Run a plan's open trainings with their progress on the terminal and in Ray's metrics.

    Args:
        plan: what to train.
        images: the images of all trainings, or a set for each of their forms.
        splits: the splits by name.
        config: of the run.
        run: its name for people, in metrics and in Ray's dashboard.
        earlier: trainings of the run, of which those that an earlier start has ended are counted.
        seconds_left: of the run's budget; None where it has none.
        trackers: who follows the trainings beside the terminal.
        storage: the run's place in a storage that is no folder.

    Raises:
        ClusterError: the cluster cannot run them, or was lost.
    """
    from busi_tune.orchestration.metrics import Metrics
    from busi_tune.orchestration.progress import Progress
    from busi_tune.orchestration.tuning import run_plan

    resources = config.resources
    if config.training.device != "auto" and resources.gpus_per_worker is None:
        gpus = 1.0 if config.training.device == "cuda" else 0.0
        resources = replace(resources, gpus_per_worker=gpus)
    with (
        Progress(config, plan.num_open, earlier, seconds_left) as progress,
        Metrics(config, run, earlier) as metrics,
    ):
        observers = Observers([progress, metrics, *trackers, *([storage] if storage else [])])
        shared = None if storage else config.storage
        run_plan(plan, images, splits, resources, observers, None, shared, storage, run)
    if plan.num_open():
        raise ClusterError(f"{plan.num_open()} training(s) were left without an end")


def finish_run(trainings: list[Training], images: ImageSet, run_dir: Path) -> int:
    """Gather what the trainings left, write tables and figures, and say how it went."""
    gather_run(run_dir, trainings)
    outcomes = {training.name: read_outcome(training.folder) for training in trainings}
    failures = {name: outcome for name, outcome in outcomes.items() if outcome.failed}
    for name, outcome in failures.items():
        logger.error("%s failed: %s", name, outcome.reason)
    if len(failures) < len(outcomes):
        write_tables_and_figures(run_dir, images)
    return SOME_FAILED if failures else DONE


def write_tables_and_figures(run_dir: Path, images: ImageSet) -> None:
    """Write what people look at, and show the closing table."""
    write_results(run_dir, images)
    print_rows(console_rows(run_dir))
    print_lines(console_lines(run_dir))
    logger.info("open %s", run_dir / run_directory.REPORT)
