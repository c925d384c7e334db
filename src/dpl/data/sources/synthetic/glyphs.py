"""Glyphs of digits and letters in typefaces absent from the embedded backbone's pretraining: 10 text and 7 handwritten ones.

`glyphs.png` has a row of 62 cells per face, one bit per pixel; `glyphs.json` lists the faces and their licences.
`python -m pretraining.glyphs` writes both files.
"""

import json
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from dpl.data.sources.synthetic.raster import FINE, LINES, STEP, samples_per_pixel

UNIT = 1 << 16  # fixed-point scale of the matrix that maps samples to cells


@cache
def faces(style: str) -> Bool[np.ndarray, "faces 62 cell cell"]:
    """Loads the glyphs of all faces of a style.

    Args:
        style: "print" or "script".

    Returns:
        Glyphs with an empty border of one pixel: digits, uppercase and lowercase letters.
    """
    folder = files("dpl.data.sources.synthetic")
    index = json.loads((folder / "glyphs.json").read_text(encoding="utf-8"))
    with (folder / "glyphs.png").open("rb") as file:
        sheet = np.asarray(Image.open(file).convert("L")) >= 128
    cells = sheet.reshape(-1, index["cell"], 62, index["cell"]).transpose(0, 2, 1, 3)
    return np.pad(cells[[face["style"] == style for face in index["faces"]]], ((0, 0), (0, 0), (1, 1), (1, 1)))


def glyph(style: str, face: int, character: str) -> Bool[np.ndarray, "cell cell"]:
    """Returns one glyph; its longer side fills the cell up to the border.

    Args:
        style: "print" or "script".
        face: number of the face, from 0; larger numbers start over.
        character: digit or letter.

    Returns:
        The glyph, one bit per pixel.
    """
    every = faces(style)
    return every[face % len(every), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(character)]


def place(
    cell: Bool[np.ndarray, "cell cell"], matrix: Float[np.ndarray, "2 2"], centre: tuple[float, float]
) -> Int[np.ndarray, "SIZE SIZE"]:
    """Rasterises a glyph.

    Args:
        cell: the glyph; its cell is [-1, 1] on both axes.
        matrix: maps the cell to pixels relative to `centre`.
        centre: (x, y) in pixels.

    Returns:
        Coverage of each pixel, 0 to `FULL` of `dpl.data.sources.synthetic.raster`.
    """
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
