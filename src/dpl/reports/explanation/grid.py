"""Content of the output of `dpl explain`, for page and figure: a row per image, a column per model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

SIZE = 224
"""Pixels per side of a drawn picture."""


@dataclass(frozen=True)
class Column:
    """A model: its name, and a short description."""

    name: str
    note: str


@dataclass(frozen=True, eq=False)
class View:
    """A model's view of an image: a class, its probability (0-1), and its Grad-CAM map (0-1)."""

    class_name: str
    probability: float
    heat: Float[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class Row:
    """An image: its name, its pixels, its true class (None if unknown), and a view per column."""

    name: str
    picture: UInt8[np.ndarray, "size size 3"]
    truth: str | None
    views: Sequence[View]

    def verdict(self, view: View) -> str | None:
        """Compares the class of a view with the true class of the image.

        Args:
            view: one of `views`.

        Returns:
            "right" or "wrong"; None if the true class is unknown.
        """
        return None if self.truth is None else "right" if view.class_name == self.truth else "wrong"


@dataclass(frozen=True, eq=False)
class Sheet:
    """The whole content; `label` is the class of every map, or None for the class that each model predicts."""

    run: str
    backbone: str
    label: str | None
    columns: Sequence[Column]
    rows: Sequence[Row]
