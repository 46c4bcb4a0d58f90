"""Seconds to check and decode a folder of images, and to map them when that was done before.

python experiments/benchmarks/cache.py --root BUSI --out results.jsonl

The phantom set is used without a root. Near-duplicates are not looked for, which takes longer and
has a benchmark of its own. One JSON line.
"""

import argparse
import tempfile
import time
from pathlib import Path

from lines import add_line

from busi_tune.config import DataConfig
from busi_tune.data.cache import load_images
from busi_tune.data.phantom import write_phantom


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="images in BUSI's layout; default: 120 phantom images")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--out", type=Path, help="file to which the line is appended")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root
        if root is None:
            root = f"{scratch}/phantom"
            write_phantom(Path(root))
        cache = f"{scratch}/cache"
        config = DataConfig(root=root, image_size=options.size, cache_dir=cache, groups="none")
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            images = load_images(config)
            seconds.append(time.perf_counter() - began)
    line = {
        "images": len(images),
        "size": options.size,
        "cold_seconds": round(seconds[0], 2),
        "warm_seconds": round(min(seconds[1:]), 2),
    }
    add_line(line, options.out)


if __name__ == "__main__":
    main()
