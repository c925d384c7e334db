"""Synthetic tasks: rendered pictures with different kinds of distribution shift from the embedded backbone's pretraining data.

A task is one row of `TASKS` and its drawing function. Every picture of a split has its own seed, so a pool can grow without
changing a picture. Pixels are computed from integers (angles are rounded to them) that are drawn from the raw stream of PCG64, so
they are bit-identical on all machines, library versions and thread counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from dpl.data.sources.synthetic import figures, symbols
from dpl.data.sources.synthetic.outlines import CORNERED, SHAPES

SHAPE = ("a photo of a {}.", "a drawing of a {}.", "an image of a {}.", "a picture of a {} shape.", "this is a {}.", "{}.")
DIGIT = ("a photo of the digit {}.", "a picture of the digit {}.", "an image of the number {}.", "a drawing of the digit {}.",
         "the digit {}.", "this is the number {}.")  # fmt: skip
CAPITAL = ("a photo of the capital letter {}.", "a picture of the letter {}.", "an image of the letter {}.",
           "a drawing of the capital letter {}.", "the letter {}.", "this is the uppercase letter {}.")  # fmt: skip
LOWERCASE = ("a photo of the lowercase letter {}.", "a picture of the letter {}.", "an image of the letter {}.",
             "a drawing of the small letter {}.", "the letter {}.", "the written letter {}.")  # fmt: skip
COLOUR = ("a photo of a {} object.", "a picture of a {} shape.", "an image of something {}.", "a drawing of a {} figure.",
          "this is a {} thing.", "a {} shape.")  # fmt: skip
TEXTURE = ("a texture of {}.", "a photo of {}.", "a pattern of {}.", "a surface with {}.", "{}.")
THINGS = ("a photo of {}.", "a picture of {}.", "an image of {}.", "a drawing of {}.", "this is {}.", "{}.")


@dataclass(frozen=True)
class Synthetic:
    """A synthetic task: description, class names, templates, drawing function and augmentation."""

    description: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    draw: Callable[[int, Generator], UInt8[np.ndarray, "SIZE SIZE 3"]]
    """Draws a picture, given the index of its class and a generator of its own."""
    scale: tuple[float, float] = (0.7, 1.0)
    """Range of the random crop's area, as in `dpl.data.task.Augmentation`."""
    flip: bool = False
    """Whether a picture may be mirrored, as in `dpl.data.task.Augmentation`."""


WHOLE = (1.0, 1.0)  # no crop, because a crop could remove counted objects and changes angles
FIGURES = tuple(SHAPES)

TASKS: dict[str, Synthetic] = {
    "outlines": Synthetic("12 shapes as a thin line", FIGURES, SHAPE, figures.outline),
    "sketches": Synthetic("12 shapes in pencil, drawn over and hatched", FIGURES, SHAPE, figures.sketch),
    "corners": Synthetic(
        "polygons and stars by their corners, at any angle", tuple(CORNERED), SHAPE, figures.cornered, flip=True
    ),
    "counting": Synthetic(
        "one to six leaves, keys, fish and the like", figures.COUNTS, THINGS, figures.several, WHOLE, flip=True
    ),
    "lamplight": Synthetic("the colour of a shape in a coloured light", figures.CASTABLE, COLOUR, figures.cast, flip=True),
    "stripes": Synthetic("the direction of stripes in steps of 15 degrees", figures.STRIPES, TEXTURE, figures.stripes, WHOLE),
    "fog": Synthetic("printed letters in fog and noise", tuple(symbols.LOWERCASE), LOWERCASE, symbols.fog),
    "turned": Synthetic(
        "printed capitals at any angle and mirrored", tuple(symbols.TURNABLE), CAPITAL, symbols.turned, flip=True
    ),
    "fence": Synthetic("printed capitals behind a fence", tuple(symbols.FENCED), CAPITAL, symbols.fenced),
    "script": Synthetic("lowercase letters in handwriting and script", tuple(symbols.LOWERCASE), LOWERCASE, symbols.cursive),
    "lookalikes": Synthetic("digits and letters that look alike, in coarse pixels", symbols.LOOKALIKES, THINGS, symbols.coarse),
    "segments": Synthetic("digits on a seven-segment display", tuple(symbols.DIGITS), DIGIT, symbols.segments),
    "plates": Synthetic("digits made of dots among dots", tuple(symbols.DIGITS), DIGIT, symbols.plate),
}
