"""From an image file to a PIL image, RGB and upright, whatever its format; or to one clear sentence why not."""

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from dpl.data.paths import shown
from dpl.errors import DplError

T = TypeVar("T")
R = TypeVar("R")
Source = TypeVar("Source", bound="Path | Encoded")

# Only formats that hold photos and are decoded in this process: PIL would hand an EPS to Ghostscript, for one.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000")
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Encoded:
    """An image file that lies within a larger one, such as a row of a data set; its bytes are fetched when they are read."""

    name: str
    """What a person is told where it cannot be read."""
    fetch: Callable[[], bytes]
    """The bytes, as of a JPEG or PNG file; threads may call it at the same time."""

    def __str__(self) -> str:
        return self.name


class _Unreadable(Exception):
    """Why a file gives no image."""


def read_image(path: Path | Encoded, shortest: int | None = None) -> Image.Image:
    """The file's image (first frame) in RGB, 8 bits, upright by its EXIF, transparency composited on white.

    With `shortest`, an image whose shortest side has more pixels is scaled down to that, and JPEGs decode faster.
    Raises `DplError` with the file's name where there is no readable image.
    """
    try:
        with _quiet():
            return _read(path, shortest)
    except _Unreadable as error:
        raise DplError(f"cannot read {shown(str(path))} as an image: {error}; replace or remove the file") from None


def unreadable(paths: Sequence[Source]) -> dict[Source, str]:
    """The paths (or `Encoded`) that hold no readable image, each with the reason. Every file is decoded to its end."""

    def probe(path: Source) -> str | None:
        try:
            _read(path, shortest=1)
        except _Unreadable as error:
            return str(error)
        return None

    reasons = in_threads(probe, paths)
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def in_threads(function: Callable[[T], R], values: Sequence[T]) -> list[R]:
    """`function` of every value, in order. PIL works without Python's lock; few threads, as photos take memory."""
    with _quiet(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, values))


@contextmanager
def _quiet() -> Iterator[None]:
    """PIL's warnings about odd metadata are of no use to people; too many pixels are an error instead (`_read`).

    Filters belong to the whole process: threads that enter this need one more `_quiet` around all (`in_threads`).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(path: Path | Encoded, shortest: int | None) -> Image.Image:
    image = _decoded(path, shortest)
    try:
        rgb = _shrunk(_upright(image, _rgb(image)), shortest)
    except Exception as error:  # PIL has no way from this mode to RGB, or broken bytes show only now
        raise _Unreadable(_reason(error)) from None
    rgb.info = {}  # EXIF holds thumbnails, which would stay in memory
    return rgb


def _opened(path: Path | Encoded) -> Image.Image:
    """The image, opened; its pixels are not decoded yet."""
    if isinstance(path, Encoded):
        data = path.fetch()
        if not data:
            raise _Unreadable("the file is empty")
        return Image.open(io.BytesIO(data), formats=_formats())
    if not path.is_file():  # opening a pipe would wait for ever
        raise _Unreadable("not a file" if path.exists() else "no such file")
    if path.stat().st_size == 0:
        raise _Unreadable("the file is empty")
    return Image.open(path, formats=_formats())


def _decoded(path: Path | Encoded, shortest: int | None) -> Image.Image:
    """The opened and loaded image, as it lies in the file."""
    try:
        with _opened(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            if shortest:
                # JPEG only: decode at 1/2, 1/4 or 1/8, but not smaller. All of the file is still read and checked.
                image.draft(None, (shortest, shortest))
            image.load()
        if 0 in image.size:
            raise _Unreadable("it has no pixels")
        return image
    except _Unreadable:
        raise
    except Image.DecompressionBombError:
        raise _Unreadable(f"more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise _Unreadable("not an image of a known format") from None
    except Exception as error:  # decoders raise nearly anything for broken bytes: OSError, ValueError, SyntaxError, ...
        raise _Unreadable(_reason(error)) from None


def _reason(error: Exception) -> str:
    return shown(" ".join(str(error).split()) or type(error).__name__)


def _formats() -> list[str]:
    Image.init()  # registers all formats of this PIL; older ones lack AVIF
    return [name for name in FORMATS if name in Image.OPEN]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # "I", "I;16", "I;16B", "F": PIL's own conversion would clip them at 255
        white_levels = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
        grey = _eight_bits(np.asarray(image, dtype=np.float64), white_levels)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, white_levels: Sequence[float]) -> np.ndarray:
    """Grey values (height, width) as uint8: white is the first of the levels that none exceeds, or else the largest."""
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0).clip(min=0)
    top = values.max()
    white = next((level for level in white_levels if top <= level), top)
    return np.rint(values * (255 / white)).astype(np.uint8)


def _upright(source: Image.Image, image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(source.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF in a sound image: take the image as it lies
        turn = None
    return image if turn is None else image.transpose(turn)


def _shrunk(image: Image.Image, shortest: int | None) -> Image.Image:
    if shortest is None or min(image.size) <= shortest:
        return image
    scale = shortest / min(image.size)
    width, height = (max(shortest, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
