"""Finds the epoch after which the layout of a search no longer changed."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def settled_epoch(epochs: Sequence[int], layouts: Sequence[T]) -> int | None:
    """Returns the first epoch from which on the layout equals the final one.

    Args:
        epochs: numbers of the epochs.
        layouts: the layout after each of `epochs`.

    Returns:
        The epoch; None if the layout changed in the last epoch or if there is only one.
    """
    same = 0
    for layout in reversed(layouts):
        if layout != layouts[-1]:
            break
        same += 1
    return epochs[len(layouts) - same] if same > 1 else None
