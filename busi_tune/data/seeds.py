"""Seeds of independent random streams, from what they are for alone."""

import zlib

import numpy as np


def derive_seed(purpose: str, *numbers: int) -> int:
    """Return a seed in [0, 2**63) for one purpose and, say, one run seed, epoch and rank.

    Nothing else enters, so no generator's state has to be saved for a training to be resumed.
    """
    entropy = np.random.SeedSequence([zlib.crc32(purpose.encode()), *numbers])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
