"""Decodes image files of any supported format to upright RGB PIL images, or reports in one sentence why it cannot."""

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from dpl.data.paths import shown
from dpl.data.task import Encoded
from dpl.utils.errors import DplError

T = TypeVar("T")
R = TypeVar("R")
Source = TypeVar("Source", bound="Path | Encoded")

# Only formats that contain photos and that PIL decodes in this process. For EPS, for example, PIL starts Ghostscript.
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


class UnreadableImage(DplError):
    """An image file cannot be decoded. The message names the file.

    Args:
        source: Image file, or the name of an image that is none.
        reason: Reason, a phrase.
    """

    def __init__(self, source: Path | Encoded | str, reason: str) -> None:
        super().__init__(f"cannot read {shown(str(source))} as an image: {reason}; replace or remove the file")
        self.reason = reason


class _Unreadable(Exception):
    """A file cannot be decoded; the message is the reason."""


def read_image(path: Path | Encoded, shortest: int | None = None) -> Image.Image:
    """Decodes the first frame in 8-bit RGB, rotated upright by its EXIF, with transparency composited on white.

    Args:
        path: Image file.
        shortest: Scales a larger image down until its shortest side has so many pixels; JPEGs then decode faster.

    Returns:
        The RGB image.

    Raises:
        UnreadableImage: The file has no readable image.
    """
    try:
        with _quiet():
            return _read(path, shortest)
    except _Unreadable as error:
        raise UnreadableImage(path, str(error)) from None


def convert_image(image: Image.Image, name: str, shortest: int | None = None) -> Image.Image:
    """Converts an image of PIL as `read_image` converts the one in a file.

    Args:
        image: Image of any mode, possibly not yet decoded.
        name: Its name in messages.
        shortest: As in `read_image`.

    Returns:
        The RGB image.

    Raises:
        UnreadableImage: The image cannot be decoded or converted.
    """
    try:
        with _quiet():
            image.load()
            return _converted(image, shortest)
    except _Unreadable as error:
        reason = str(error)
    except Exception as error:  # as in `_decoded`
        reason = _reason(error)
    raise UnreadableImage(name, reason)


def unreadable(paths: Sequence[Source]) -> dict[Source, str]:
    """Decodes every file completely and returns those without a readable image.

    Args:
        paths: Paths or `Encoded` images.

    Returns:
        The unreadable ones, each with the reason.
    """

    def probe(path: Source) -> str | None:
        try:
            _read(path, shortest=1)
        except _Unreadable as error:
            return str(error)
        return None

    reasons = in_threads(probe, paths)
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def absent(path: Path) -> str | None:
    """Returns why `path` cannot be an image without reading it: it is no file, or it is empty; None if it may be one."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return "not a file" if path.exists() else "no such file"
        return None if path.stat().st_size else "the file is empty"
    except OSError as error:  # a path that is too long, or a folder that may not be entered
        return _reason(error)


def in_threads(function: Callable[[T], R], values: Sequence[T]) -> list[R]:
    """Applies `function` to every value in at most 4 threads.

    PIL releases Python's global lock while it decodes. There are few threads because decoded photos take memory.

    Args:
        function: Function that threads may call at the same time.
        values: Arguments of the calls.

    Returns:
        The results in the order of `values`.
    """
    with _quiet(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, values))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides PIL's warnings about odd metadata, which do not help users; `_decoded` makes too many pixels an error.

    Warning filters are global to the process, so code that enters this in threads needs one `_quiet` around all of them
    (see `in_threads`).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(path: Path | Encoded, shortest: int | None) -> Image.Image:
    return _converted(_decoded(path, shortest), shortest)


def _converted(image: Image.Image, shortest: int | None) -> Image.Image:
    try:
        rgb = _shrunk(_upright(image, _rgb(image)), shortest)
    except Exception as error:  # PIL has no way from this mode to RGB, or broken bytes show only now
        raise _Unreadable(_reason(error)) from None
    rgb.info = {}  # EXIF may have thumbnails, which would stay in memory
    return rgb


def _opened(path: Path | Encoded) -> Image.Image:
    """Opens the image without decoding its pixels."""
    if isinstance(path, Encoded):
        data = path.fetch()
        if not data:
            raise _Unreadable("the file is empty")
        return Image.open(io.BytesIO(data), formats=_formats())
    if reason := absent(path):
        raise _Unreadable(reason)
    return Image.open(path, formats=_formats())


def _decoded(path: Path | Encoded, shortest: int | None) -> Image.Image:
    """Opens and decodes the image, without conversion to RGB or rotation."""
    try:
        with _opened(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            if shortest:
                # Affects JPEG only: decodes at 1/2, 1/4 or 1/8, but not below `shortest`. The whole file is still checked.
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
    except Exception as error:  # for broken bytes, decoders raise many types: OSError, ValueError, SyntaxError, ...
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
    """Scales grey values (height, width) to uint8. White is the first level that no value exceeds, else the largest value."""
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0).clip(min=0)
    top = values.max()
    white = next((level for level in white_levels if top <= level), top)
    return np.rint(values * (255 / white)).astype(np.uint8)


def _upright(source: Image.Image, image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(source.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF in an intact image: do not rotate
        turn = None
    return image if turn is None else image.transpose(turn)


def _shrunk(image: Image.Image, shortest: int | None) -> Image.Image:
    if shortest is None or min(image.size) <= shortest:
        return image
    scale = shortest / min(image.size)
    width, height = (max(shortest, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
