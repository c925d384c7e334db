"""What `dpl explain` has to show, whatever it is drawn as: a row per image, a column per model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

SIZE = 224
"""Pixels of a picture as it is drawn."""


@dataclass(frozen=True)
class Column:
    """A model: its name, and a few words on what it is."""

    name: str
    note: str


@dataclass(frozen=True, eq=False)
class View:
    """How a model sees an image: a class, its probability (0-1), and the map of what speaks for it (0-1)."""

    class_name: str
    probability: float
    heat: Float[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class Row:
    """An image: its name, its pixels, its class where that is known, and a view per column."""

    name: str
    picture: UInt8[np.ndarray, "size size 3"]
    truth: str | None
    views: Sequence[View]

    def verdict(self, view: View) -> str | None:
        """Whether the view has the class of the image, in a word; none where that is not known."""
        return None if self.truth is None else "right" if view.class_name == self.truth else "wrong"


@dataclass(frozen=True, eq=False)
class Sheet:
    """All of it; `label` is the class that every map is of, none: the one that its model predicts."""

    run: str
    backbone: str
    label: str | None
    columns: Sequence[Column]
    rows: Sequence[Row]
