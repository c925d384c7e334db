"""Pixels inside a page: WebP as data URIs, the same picture always the same bytes."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

LARGEST = 224  # pixels a side: larger pictures are shown at this size
EXACT = 64  # up to so many a side nothing is lost: every pixel is seen


def square(picture: UInt8[np.ndarray, "3 size size"]) -> UInt8[np.ndarray, "size size 3"]:
    """The picture with its colours last, as images have them."""
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def data_uri(image: Image.Image) -> str:
    """`image` as a `data:` URI, at most `LARGEST` pixels a side; small ones exactly, others as good as the eye sees."""
    if max(image.size) > LARGEST:
        image = image.copy()
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=max(image.size) <= EXACT, quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
