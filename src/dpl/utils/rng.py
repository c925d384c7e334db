"""Named randomness: every random draw of a run comes from a generator derived from the run's seed and a name.

A draw does not depend on earlier draws, so a resumed run needs no generator states: the number of the step is enough.
"""

import hashlib

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Derives the seed of a random stream, as a part of SHA-256 of `seed` and `names`, so that streams are independent.

    Args:
        seed: the seed of the run.
        names: the name of the stream, in parts.

    Returns:
        A 63-bit seed.

    Example:

        >>> derive_seed(1, "shots") == derive_seed(1, "shots")
        True
        >>> derive_seed(1, "shots") == derive_seed(1, "augment")
        False
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Makes the CPU generator of a random stream.

    Args:
        seed: the seed of the run.
        names: the name of the stream, in parts.

    Returns:
        A generator at the beginning of the stream.

    Example:

        >>> first, again = generator(1, "augment", 0), generator(1, "augment", 0)
        >>> bool((torch.randn(3, generator=first) == torch.randn(3, generator=again)).all())
        True
    """
    return torch.Generator().manual_seed(derive_seed(seed, *names))
