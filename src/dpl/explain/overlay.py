"""A map over a picture, everywhere the same way: the picture in grey, colours where there is heat."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

COLOURS = "inferno"
"""matplotlib's, even to the eye and to the colour-blind: from black over red to yellow (Smith and van der Walt, 2015)."""
DARKEST, BRIGHTEST = 0.35, 0.92  # where in the colours heat begins and ends
STRONGEST = 0.85  # how much of the colour there is at the most heat
GREYS = (60.0, 235.0)  # of black and white, so that the darkest and the brightest colours stand out from both


def overlay(picture: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "rows columns"], size: int) -> Image.Image:
    """The square RGB `picture` in grey, `size` pixels wide and high, and over it the `heat`, 0-1, of which 0 is not seen.

    The map is enlarged by bicubic interpolation; the more heat, the brighter and the denser the colour.
    """
    grey = Image.fromarray(picture).convert("L").resize((size, size), Image.Resampling.BICUBIC)
    low, high = GREYS
    ground = np.asarray(grey, dtype=np.float64) / 255 * (high - low) + low
    large = Image.fromarray(heat.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    return _painted(ground, np.asarray(large, dtype=np.float64).clip(0, 1))


def scale(width: int, height: int) -> Image.Image:
    """The colours of `overlay` on a middle grey, heat from 0 at the left to 1 at the right."""
    return _painted(np.full((height, width), sum(GREYS) / 2), np.tile(np.linspace(0, 1, width), (height, 1)))


def _painted(ground: Float[np.ndarray, "height width"], heat: Float[np.ndarray, "height width"]) -> Image.Image:
    colours = matplotlib.colormaps[COLOURS](DARKEST + (BRIGHTEST - DARKEST) * heat)[..., :3] * 255
    density = STRONGEST * heat[..., None]
    return Image.fromarray(np.rint(ground[..., None] * (1 - density) + colours * density).astype(np.uint8))
