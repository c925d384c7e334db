"""Image files on disk: recognised endings, listing of folders, and printable paths."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dpl.utils.errors import DplError

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
ENDINGS += (".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".avif", ".jp2", ".j2k")


def is_image(path: Path) -> bool:
    """Returns whether the file name has an image ending, in upper or lower case."""
    return path.suffix.lower() in ENDINGS


def shown(path: Path | str) -> str:
    """Formats `path` as printable text on one line.

    Args:
        path: path or text of the user.

    Returns:
        The text, with undecodable bytes as \\udcxx and control characters as "?".
    """
    text = str(path).encode(errors="backslashreplace").decode()
    return "".join("?" if character < " " or "\x7f" <= character < "\xa0" else character for character in text)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Joins names for a message.

    Args:
        names: the names.
        most: number of names to write; the others are counted.

    Returns:
        Text such as "a, b and 3 more".
    """
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def relative_name(path: Path, root: Path) -> str:
    r"""Returns the relative path as text, the same on every system.

    Args:
        path: a file or folder.
        root: the folder that the path becomes relative to.

    Returns:
        The path with forward slashes; undecodable bytes are written as \udcxx.
    """
    return os.path.relpath(path, root).replace(os.sep, "/").encode(errors="backslashreplace").decode()


def entries(folder: Path) -> list[Path]:
    """Lists `folder` without hidden entries and without `__MACOSX`, which macOS adds to zip files.

    Args:
        folder: the folder.

    Returns:
        Paths sorted by name.

    Raises:
        DplError: the folder cannot be listed.
    """
    return sorted(folder / entry.name for entry in _scan(folder))


def folders(folder: Path) -> list[Path]:
    """Lists the folders of `entries` and the links to folders; faster than filtering `entries` if there are many files.

    Args:
        folder: the folder.

    Returns:
        Paths sorted by name.

    Raises:
        DplError: the folder cannot be listed.
    """
    return sorted(folder / entry.name for entry in _scan(folder) if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise DplError(f"cannot list the folder {shown(folder)}: {error.strerror}; check its permissions") from None


def walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yields all files in `folder` and below, sorted, without hidden ones.

    Links to folders are followed unless they lead to a folder in `seen`, so loops end.

    Args:
        folder: the folder.
        seen: resolved paths of visited folders; visited folders are added.

    Raises:
        DplError: a folder cannot be listed.
    """
    seen.add(folder.resolve())
    for path in entries(folder):
        if not path.is_dir():
            yield path
        elif path.resolve() not in seen:
            yield from walk(path, seen)


def with_parents(folder: Path) -> set[Path]:
    """Returns `folder` and all its parents, resolved.

    As the initial `seen` of `walk`, the set prevents links from leading up and out of `folder`.
    """
    real = folder.resolve()
    return {real, *real.parents}
