"""Image files on disk: which endings count, how folders are walked, how a path is shown to a person."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dpl.errors import DplError

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
ENDINGS += (".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".avif", ".jp2", ".j2k")


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's, in upper or lower case."""
    return path.suffix.lower() in ENDINGS


def shown(path: Path | str) -> str:
    """`path` as printable text on one line: bytes that are no text as \\udcxx, control characters as "?"."""
    text = str(path).encode(errors="backslashreplace").decode()
    return "".join("?" if character < " " or "\x7f" <= character < "\xa0" else character for character in text)


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first `most` names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def relative_name(path: Path, root: Path) -> str:
    """`path` relative to `root` as text with forward slashes, the same on every system."""
    return os.path.relpath(path, root).replace(os.sep, "/").encode(errors="backslashreplace").decode()


def entries(folder: Path) -> list[Path]:
    """What lies in `folder`, sorted by name, but nothing hidden, nor what macOS adds to zip files."""
    return sorted(folder / entry.name for entry in _scan(folder))


def folders(folder: Path) -> list[Path]:
    """The folders of `entries`, and links to such. Where there are many files, it takes a part of the time."""
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
    """All files in `folder` and below, sorted, without the hidden.

    Links to folders are followed, but not to those of `seen` (resolved paths, added to on the way): loops end.
    """
    seen.add(folder.resolve())
    for path in entries(folder):
        if not path.is_dir():
            yield path
        elif path.resolve() not in seen:
            yield from walk(path, seen)


def with_parents(folder: Path) -> set[Path]:
    """`folder` and all folders above it, resolved: a start for `seen`, so that no link leads up and out of `folder`."""
    real = folder.resolve()
    return {real, *real.parents}
