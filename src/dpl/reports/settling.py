"""When a search settled: the first epoch from which on the layout did not change to the end."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def settled(epochs: Sequence[int], layouts: Sequence[T]) -> int | None:
    """The first of `epochs` (as many as `layouts`, one after each) from which on the layout stayed what it was at the end.

    None where that says nothing: it changed in the last epoch, or there is only one.
    """
    same = 0
    for layout in reversed(layouts):
        if layout != layouts[-1]:
            break
        same += 1
    return epochs[len(layouts) - same] if same > 1 else None
