"""How far two results are apart."""

from torch import Tensor


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest absolute difference, relative to the largest entry of `theirs`."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
