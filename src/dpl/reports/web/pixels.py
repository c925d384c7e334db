"""Embeds pictures in a page as WebP data URIs. The same picture gives the same bytes."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

LARGEST = 224  # pixels per side; larger pictures are reduced to it
EXACT = 64  # pixels per side; pictures up to this size are compressed without loss, because the page enlarges their pixels


def square(picture: UInt8[np.ndarray, "3 size size"]) -> UInt8[np.ndarray, "size size 3"]:
    """Moves the channels of a picture from the first to the last axis, as PIL expects them."""
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def data_uri(image: Image.Image) -> str:
    """Encodes `image` as a `data:` URI, reduced to `LARGEST` pixels per side.

    Images of at most `EXACT` pixels per side are compressed without loss, others with WebP quality 82.
    """
    if max(image.size) > LARGEST:
        image = image.copy()
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=max(image.size) <= EXACT, quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
