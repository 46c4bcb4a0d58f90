"""Check and read mutated images in a process of its own, and say what became of them.

python -m tests.security.read_mutations FIRST_SEED NUMBER: one line of JSON. The address space is
limited, as is computing, so a reader that asks for more fails here and takes nothing with it.
"""

import json
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from busi_tune.data.busi import Sample
from busi_tune.data.check import check_image, check_sample
from busi_tune.data.pixels import MAX_PIXELS, read_image
from tests.security.mutations import mutate

LIMIT_BYTES = 2 * 2**30
"""Address space beyond what the imports take."""
LIMIT_SECONDS = 300
"""Of computing, however busy the machine; a hang is killed."""


def main(first: int, number: int) -> None:
    """Read the files of so many seeds."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    escaped: dict[int, str] = {}
    slowest = (0.0, first)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + number):
            ending, content = mutate(seed)
            path = Path(folder) / f"image{ending}"
            path.write_bytes(content)
            began = time.process_time()
            try:
                outcomes[read(path)] += 1
            except Exception as error:
                escaped[seed] = f"{type(error).__name__}: {error}"
            slowest = max(slowest, (time.process_time() - began, seed))
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told: dict[str, Any] = {"outcomes": outcomes, "escaped": escaped, "slowest": slowest}
    told |= {"mebibytes": (peak - before) / 1024, "seconds": time.process_time()}
    print(json.dumps(told))


def read(path: Path) -> str:
    """Check a file and, where nothing is wrong with it, read it and check it as a mask too."""
    problems = check_image(path)[1]
    as_mask = [] if problems else check_sample(Sample("image", "benign", path, (path,), "image"))
    for problem in (*problems, *as_mask):
        assert problem.cause and problem.remedy and problem.path == path
    if problems:
        return problems[0].cause.partition(":")[0][:40]
    image = read_image(path)
    assert image.dtype == np.uint8 and image.ndim == 2 and 0 < image.size <= MAX_PIXELS
    return "read"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
