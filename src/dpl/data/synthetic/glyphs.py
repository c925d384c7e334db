"""Digits and letters of faces that the embedded backbone never saw: 10 text faces and 7 written ones.

`glyphs.png` has a row of 62 cells per face, one bit a pixel; `glyphs.json` names the faces and their licences.
`python -m pretraining.glyphs` makes both.
"""

import json
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Bool, Float, Int

from dpl.data.synthetic.raster import FINE, LINES, STEP, samples_per_pixel

UNIT = 1 << 16  # the fixed point of the matrix that maps samples to cells


@cache
def faces(style: str) -> Bool[np.ndarray, "faces 62 cell cell"]:
    """The glyphs of the faces of a style, `print` or `script`, in a border one pixel wide that is empty."""
    from PIL import Image

    folder = files("dpl.data.synthetic")
    index = json.loads((folder / "glyphs.json").read_text())
    with (folder / "glyphs.png").open("rb") as file:
        sheet = np.asarray(Image.open(file).convert("L")) >= 128
    cells = sheet.reshape(-1, index["cell"], 62, index["cell"]).transpose(0, 2, 1, 3)
    return np.pad(cells[[face["style"] == style for face in index["faces"]]], ((0, 0), (0, 0), (1, 1), (1, 1)))


def glyph(style: str, face: int, character: str) -> Bool[np.ndarray, "cell cell"]:
    """One character of a face, its longer side filling the cell but for the border; faces count from 0 and repeat."""
    every = faces(style)
    return every[face % len(every), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(character)]


def place(
    cell: Bool[np.ndarray, "cell cell"], matrix: Float[np.ndarray, "2 2"], centre: tuple[float, float]
) -> Int[np.ndarray, "SIZE SIZE"]:
    """The coverage of a glyph whose cell, [-1, 1] on both axes, is mapped by the matrix to pixels around `centre`."""
    side = len(cell)
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    inverse = np.array([[matrix[1, 1], -matrix[0, 1]], [-matrix[1, 0], matrix[0, 0]]]) / determinant
    fixed = np.rint(inverse * (side / 2 * UNIT / FINE)).astype(np.int64)
    line = STEP * np.arange(LINES) + STEP // 2
    x, y = (line - round(value * FINE) for value in centre)
    column, row = (
        np.clip((fixed[k, 0] * x + (fixed[k, 1] * y + (side * UNIT // 2))[:, None]) >> 16, 0, side - 1) for k in (0, 1)
    )
    return samples_per_pixel(cell[row, column])
