"""Named randomness: every random draw of a run comes from a generator derived from the run's seed and a name.

A draw depends on nothing that happened before it, so a resumed run needs no generator states: knowing the step is enough.
"""

import hashlib

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of the run `seed`: SHA-256 of both, so that streams are independent."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A fresh CPU generator for the stream `names` of the run `seed`, e.g. `generator(1, "augment", epoch, step)`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))
