"""Data sets of Hugging Face: hf:NAME, a folder of `save_to_disk`, or Parquet files with the images in them.

They are opened by the library `datasets`, which runs no code of a data set from version 4 on. Only hf:NAME may use the network.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpl.data.hub_rows import Rows, to_task
from dpl.data.paths import folders, is_image, listed, shown
from dpl.data.split import PARTS
from dpl.data.table_rows import EXTRA
from dpl.data.task import Task
from dpl.errors import DplError

PREFIX = "hf:"
_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*(?::[^:/\\\s]+)?")  # owner/name:config
_DEPTH = 3  # of folders that Parquet files may be in: data/, config/train/


def is_hub(data: str) -> bool:
    """Whether `data` is hf:NAME, a folder that `save_to_disk` wrote, or one with Parquet files and no images."""
    if data.startswith(PREFIX):
        return True
    folder = Path(data)
    return bool(data) and folder.is_dir() and (_is_saved(folder) or _has_parquet(folder, _DEPTH) is True)


def load(data: str, *, strict: bool = False) -> Task:
    """The data set as a task. Splits go by their names; those that are missing are made, see the task's notes.

    The images stay where they are until they are looked at. Unreadable ones are left out with a note, or are an error if
    `strict`. Raises `DplError` for a data set that cannot be had, or that is no task.
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
    """`load` for Parquet files: those of the folder `path`, or `path` itself. Their names say which split they are of."""
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
    """The data set `name` of the Hub, from its cache where it is there already."""
    if not _ID.fullmatch(name):
        raise DplError(f"{shown(data)}: give hf:OWNER/NAME or hf:OWNER/NAME:CONFIG")
    name, _, config = name.partition(":")
    if Path(name).exists():  # the library would take it
        raise DplError(f"{data}: there is a {name} here, which could be meant; give ./{name}, or start elsewhere")
    return _opened(data, lambda library: library.load_dataset(name, config or None))


def _opened(data: str, open_data: Callable[[Any], Any]) -> Any:
    try:
        import datasets
    except ImportError:
        raise DplError(f"{shown(data)}: needs the package datasets; {EXTRA}") from None
    try:
        with _quiet(datasets, progress=data.startswith(PREFIX)):
            return open_data(datasets)
    except Exception as error:  # the library raises nearly anything: for the network, for files, for what a config lacks
        cause = error.__cause__ if type(error).__name__ == "DatasetGenerationError" and error.__cause__ else error
        reason = shown(" ".join(f"{cause}".split()))[:300] or type(cause).__name__
        raise DplError(f"{shown(data)}: cannot be opened as a data set of Hugging Face ({reason})") from None


@contextmanager
def _quiet(library: Any, progress: bool) -> Iterator[None]:
    """No remarks of the library, and progress bars only where there may be something to download."""
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
    """The splits by part, those whose names say nothing by their own names; "all" where there is one."""
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
    """True where there are Parquet files and False where there are images; None where there are neither.

    Every folder is looked into only until the first image, as there may be very many.
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
    except OSError:  # whoever reads the data will say so
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
    """The split that the file's name, or else its folder's, speaks of: train-00000-of-00002.parquet."""
    for name in (file.stem, *(parent.name for parent in file.parents if parent != top and top in parent.parents)):
        words = {PARTS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in PARTS}
        if len(words) > 1:
            raise DplError(f"{shown(file)}: is it of {' or '.join(sorted(words))}? Rename it")
        if words:
            return words.pop()
    return "all"
