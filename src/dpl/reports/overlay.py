"""Draws a map over a picture, shared by all pages and figures: the picture in grey, the map in colour."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

COLOURS = "inferno"
"""matplotlib's colour map, readable for the colour-blind: from black over red to yellow (Smith and van der Walt, 2015)."""
DARKEST, BRIGHTEST = 0.35, 0.92  # positions in the colour map of heat 0 and heat 1
STRONGEST = 0.85  # opacity of the colour at heat 1
GREYS = (60.0, 235.0)  # grey levels of black and white, so that the darkest and the brightest colours contrast with both


def overlay(picture: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "rows columns"], size: int) -> Image.Image:
    """Draws a map over a picture.

    Converts the picture to grey and enlarges the map by bicubic interpolation. Larger heat gives a brighter and more opaque
    colour; heat 0 is transparent.

    Args:
        picture: a square RGB picture.
        heat: the map, 0-1.
        size: width and height of the result in pixels.

    Returns:
        The RGB picture.
    """
    grey = Image.fromarray(picture).convert("L").resize((size, size), Image.Resampling.BICUBIC)
    low, high = GREYS
    ground = np.asarray(grey, dtype=np.float64) / 255 * (high - low) + low
    large = Image.fromarray(heat.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    return _painted(ground, np.asarray(large, dtype=np.float64).clip(0, 1))


def scale(width: int, height: int) -> Image.Image:
    """Draws the colours of `overlay` on a middle grey, heat 0 at the left to 1 at the right.

    Args:
        width: width in pixels.
        height: height in pixels.
    """
    return _painted(np.full((height, width), sum(GREYS) / 2), np.tile(np.linspace(0, 1, width), (height, 1)))


def _painted(ground: Float[np.ndarray, "height width"], heat: Float[np.ndarray, "height width"]) -> Image.Image:
    colours = matplotlib.colormaps[COLOURS](DARKEST + (BRIGHTEST - DARKEST) * heat)[..., :3] * 255
    density = STRONGEST * heat[..., None]
    return Image.fromarray(np.rint(ground[..., None] * (1 - density) + colours * density).astype(np.uint8))
