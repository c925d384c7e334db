"""Loads Hugging Face data sets: hf:NAME, a folder written by `save_to_disk`, or Parquet files that contain the images.

The library `datasets` opens them; since version 4 it runs no code of a data set. Only hf:NAME may use the network.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpl.data.paths import folders, is_image, listed, shown
from dpl.data.sources.hub_rows import Rows, to_task
from dpl.data.sources.table_rows import EXTRA
from dpl.data.split import PARTS
from dpl.data.task import Task
from dpl.utils.errors import DplError

PREFIX = "hf:"
_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*(?::[^:/\\\s]+)?")  # owner/name:config
_DEPTH = 3  # levels of folders searched for Parquet files, such as data/ or config/train/


def is_hub(data: str) -> bool:
    """Returns whether `data` is hf:NAME, a folder written by `save_to_disk`, or a folder with Parquet files and no images."""
    if data.startswith(PREFIX):
        return True
    folder = Path(data)
    return bool(data) and folder.is_dir() and (_is_saved(folder) or _has_parquet(folder, _DEPTH) is True)


def load(data: str, *, strict: bool = False) -> Task:
    """Loads a Hugging Face data set as a task.

    Splits are recognised by their names. Missing splits are made; the task's notes describe them. Items fetch the bytes of
    their images when they are read.

    Args:
        data: hf:NAME, hf:NAME:CONFIG, or a folder for which `is_hub` is true.
        strict: all images are decoded; an unreadable one or a row without a label is an error. By default rows without a label
            are skipped with a note, and nothing is decoded.

    Returns:
        The task.

    Raises:
        DplError: the data set cannot be opened, or is not a valid task.
    """
    if data.startswith(PREFIX):
        name = data.removeprefix(PREFIX)
        splits = _downloaded(data, name)
        return to_task(data, re.split("[/:]", name.split(":")[0])[-1], _by_name(data, splits), strict=strict, may_be_files=True)
    folder = Path(data)
    if _is_saved(folder):
        splits = _opened(data, lambda library: library.load_from_disk(data))
        return to_task(shown(data), shown(folder.resolve().name), _by_name(data, splits), strict=strict)
    return load_parquet(folder, sorted(_parquet_files(folder, _DEPTH)), strict=strict)


def load_parquet(path: Path, files: Sequence[Path], *, strict: bool = False) -> Task:
    """Loads Parquet files that contain the images; the names of files and folders select the split.

    Args:
        path: folder of the files, or the file itself.
        files: parquet files in `path`, or `path` alone.
        strict: as in `load`.

    Returns:
        The task, as `load` returns it.

    Raises:
        DplError: a file cannot be opened, only some of the names contain a split, or the data is not a valid task.
    """
    by_part: dict[str, list[Path]] = {}
    for file in files:
        by_part.setdefault(_part(file, path) if file != path else "all", []).append(file)
    if "all" in by_part and len(by_part) > 1:
        nameless = listed(shown(file.name) for file in by_part["all"])
        raise DplError(f"{shown(path)}: some files are of a split by their names, but not {nameless}; rename or remove them")
    parts: dict[str, Rows] = {}
    for part, own in by_part.items():
        names = [str(file) for file in own]
        data = _opened(str(path), lambda library, names=names: library.Dataset.from_parquet(names))
        parts[part] = Rows("rows" if part == "all" else part, data)
    return to_task(shown(path), shown(path.resolve().stem if path.is_file() else path.resolve().name), parts, strict=strict)


def _downloaded(data: str, name: str) -> Any:
    """Loads the data set `name` from the Hub, or from the library's cache."""
    if not _ID.fullmatch(name):
        raise DplError(f"{shown(data)}: give hf:OWNER/NAME or hf:OWNER/NAME:CONFIG")
    name, _, config = name.partition(":")
    if Path(name).exists():  # the library would load the local path instead
        raise DplError(f"{data}: there is a {name} here, which could be meant; give ./{name}, or start elsewhere")
    return _opened(data, lambda library: library.load_dataset(name, config or None))


def _opened(data: str, open_data: Callable[[Any], Any]) -> Any:
    try:
        import datasets  # late: an optional package
    except ImportError:
        raise DplError(f"{shown(data)}: needs the package datasets; {EXTRA}") from None
    try:
        with _quiet(datasets, progress=data.startswith(PREFIX)):
            return open_data(datasets)
    except Exception as error:  # the library raises many types: for the network, files, a missing config
        cause = error.__cause__ if type(error).__name__ == "DatasetGenerationError" and error.__cause__ else error
        reason = shown(" ".join(f"{cause}".split()))[:300] or type(cause).__name__
        raise DplError(f"{shown(data)}: cannot be opened as a data set of Hugging Face ({reason})") from None


@contextmanager
def _quiet(library: Any, progress: bool) -> Iterator[None]:
    """Silences the library's log, and without `progress` (nothing to download) its progress bars."""
    level, shows = library.logging.get_verbosity(), library.are_progress_bars_disabled()
    library.logging.set_verbosity(library.logging.CRITICAL)
    if not progress:
        library.disable_progress_bars()
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        if not shows:
            library.enable_progress_bars()


def _by_name(data: str, splits: Any) -> dict[str, Rows]:
    """Returns the splits by part. Splits with unknown names keep them; a single split that is not val or test is "all"."""
    if not isinstance(splits, dict):
        return {"all": Rows("rows", splits)}
    parts: dict[str, Rows] = {}
    if len(splits) == 1 and PARTS.get(next(iter(splits)).lower()) not in ("val", "test"):
        return {"all": Rows(*next(iter(splits.items())))}
    for name, rows in splits.items():
        part = PARTS.get(str(name).lower(), str(name))
        if part in parts:
            raise DplError(f"{shown(data)}: has two splits for {part}: {parts[part].split} and {name}")
        parts[part] = Rows(str(name), rows)
    return parts


def _is_saved(folder: Path) -> bool:
    names = ("dataset_info.json", "state.json")
    return (folder / "dataset_dict.json").is_file() or all((folder / name).is_file() for name in names)


def _has_parquet(folder: Path, depth: int) -> bool | None:
    """Returns False if there are images, else True if there are Parquet files, else None.

    The scan stops at the first image, because a folder may have very many.
    """
    found: bool | None = None
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if is_image(Path(entry.name)):
                    return False
                if entry.name.lower().endswith(".parquet"):
                    found = True
    except OSError:  # loading the data reports the error
        return None
    for inner in folders(folder) if depth else ():
        below = _has_parquet(inner, depth - 1)
        if below is False:
            return False
        found = found or below
    return found


def _parquet_files(folder: Path, depth: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() == ".parquet" and not path.name.startswith(".") and path.is_file():
            yield path
    for inner in folders(folder) if depth else ():
        yield from _parquet_files(inner, depth - 1)


def _part(file: Path, top: Path) -> str:
    """Returns the split in the name of the file (train-00000-of-00002.parquet) or of a folder above it, else "all"."""
    for name in (file.stem, *(parent.name for parent in file.parents if parent != top and top in parent.parents)):
        words = {PARTS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in PARTS}
        if len(words) > 1:
            raise DplError(f"{shown(file)}: is it of {' or '.join(sorted(words))}? Rename it")
        if words:
            return words.pop()
    return "all"
