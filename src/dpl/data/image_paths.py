"""Collects the image files for `dpl predict` from files, folders, or a list on standard input."""

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dpl.data.paths import is_image, shown, walk, with_parents
from dpl.utils.errors import DplError


def collect_images(arguments: Sequence[str]) -> list[Path]:
    """Expands command-line arguments to a list of image files without duplicates.

    Args:
        arguments: files, folders (searched recursively for images), or "-" to read one path per line from standard input.

    Returns:
        The files in the order of the arguments. Files named directly are kept whatever their ending.

    Raises:
        DplError: a path does not exist, a folder has no images, or no path was given.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        paths = _from_stdin() if argument == "-" else [argument]
        for path in paths:
            found.update(dict.fromkeys(_images(Path(path))))
    if not found:
        raise DplError("no images given: name image files, folders of images, or - for a list on standard input")
    return list(found)


def _from_stdin() -> list[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):  # names of files need not be text: decode them as Python decodes those of folders
        sys.stdin.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    paths = [line for line in lines if line.strip()]
    if not paths:
        raise DplError("standard input (-) names no images: give one path a line")
    return paths


def _images(path: Path) -> Iterable[Path]:
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a path that is too long, or a folder that may not be entered
        raise DplError(f"cannot read {shown(path)}: {error.strerror}") from None
    if is_folder:
        images = [file for file in walk(path, with_parents(path)) if is_image(file)]
        if not images:
            raise DplError(f"the folder {shown(path)} has no images in it")
        return images
    if not is_there:
        raise DplError(f"{shown(path)}: no such file or folder")
    return [path]
