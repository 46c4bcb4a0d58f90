"""A run brought from the storage to this machine."""

import logging
from pathlib import Path

from busi_tune import run_directory
from busi_tune.remote.address import parse_address
from busi_tune.remote.head import HEAD, read_head, refuse_other
from busi_tune.remote.objects import NUM_STREAMS, Objects, StorageError, check_name, each_of
from busi_tune.remote.run import PUSHED, hash_file
from busi_tune.run_directory import read_json, write_atomic, write_json

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0


def fetch_run(uri: str, runs: Path = Path("runs")) -> Path:
    """Bring a run from the storage to this machine, and return its directory.

    A directory that is there already is taken if the run did not go on elsewhere.

    Args:
        uri: s3://bucket/prefix/RUN.
        runs: the folder to put it in.

    Raises:
        ValueError: there is no such run, or another one lies in the directory.
    """
    address = parse_address(uri)
    objects = Objects(address, PATIENCE_SECONDS)
    objects.check()
    try:
        head = read_head(objects)
        if head is None:
            raise ValueError(f"{address.shown} is no run: it has no {HEAD}")
        run_dir = runs / Path(check_name(head["run"])).name
        if run_dir.exists():
            refuse_other(run_dir, head, address.shown)
            return run_dir
        run_directory.create(run_dir, lambda folder: _fetch_files(objects, folder))
    except StorageError as error:
        raise ValueError(str(error)) from error
    logger.info("fetched %s to %s", address.shown, run_dir)
    return run_dir


def _fetch_files(objects: Objects, folder: Path) -> None:
    skipped = f"{run_directory.TRAININGS}/"
    sizes = {n: size for n, size in objects.list().items() if not n.startswith(skipped)}

    def fetch(name: str) -> None:
        content = objects.get(check_name(name), NUM_STREAMS * sizes[name])  # they share a line
        if content is not None:
            write_atomic(folder / name, content)

    each_of(fetch, sizes)
    head = read_json(folder / HEAD)
    write_json(folder / PUSHED, {name: hash_file(folder / name) for name in sizes if name != HEAD})
    logger.info("run of %s, last written at %s", head["host"], head["time"])
