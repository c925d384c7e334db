"""Tasks drawn by programs: shifts of different kind away from what the embedded backbone was pretrained on.

A task is one row of `TASKS` and the function that draws it. Picture `index` of a split has a seed of its own, so that a pool can
grow without changing a picture. What decides a pixel is whole numbers (angles are rounded to them), drawn from the bare stream of
PCG64, so that the bits hang on no machine, library version or thread count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from dpl.data.synthetic import figures, symbols
from dpl.data.synthetic.outlines import CORNERED, SHAPES

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
    """A drawn task: what it is called, how its classes are said, how a picture is drawn and may be varied."""

    description: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    draw: Callable[[int, Generator], UInt8[np.ndarray, "SIZE SIZE 3"]]
    """From a class's index and a generator of the picture's own."""
    scale: tuple[float, float] = (0.7, 1.0)
    """As `dpl.data.task.Augmentation`."""
    flip: bool = False
    """As `dpl.data.task.Augmentation`."""


WHOLE = (1.0, 1.0)  # no crop: it could cut off what is counted, and changes angles
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
