"""Loads a task from a folder of images (see `dpl.data.sources.class_folders`) and makes the missing splits.

Class folders are searched recursively. Hidden files are ignored; files of other kinds are listed in a note.
"""

from collections import Counter
from pathlib import Path

from dpl.data import split
from dpl.data.paths import ENDINGS, is_image, listed, relative_name, shown, walk
from dpl.data.sources import class_folders
from dpl.data.sources.class_folders import ClassFolder, ClassFolders
from dpl.data.task import Augmentation, Item, Task
from dpl.data.templates import PHOTOS
from dpl.data.validate import skipped, unreadable_items
from dpl.utils.errors import DplError

AUGMENTATION = Augmentation(scale=(0.5, 1.0), flip=True)


def load(root: Path, *, strict: bool = False) -> Task:
    """Loads the folder `root` as a task.

    Missing splits are made, always in the same way; the task's notes describe them.

    Args:
        root: folder with one folder of images per class, or with splits of such.
        strict: all images are decoded, and an unreadable one is an error. By default missing and empty files are skipped with
            a note, and nothing is decoded.

    Returns:
        The task; item names are paths relative to `root`.

    Raises:
        DplError: the folder is not a valid task.
    """
    found = class_folders.find(root)
    items, notes = _read(root, found, strict)
    pools, made = split.filled(shown(root), items, found.class_names)
    return Task(
        name=shown(root.resolve().name or root),
        class_names=found.class_names,
        templates=PHOTOS,
        train=tuple(pools["train"]),
        val=tuple(pools["val"]),
        test=tuple(pools["test"]),
        augmentation=AUGMENTATION,
        notes=(*found.notes, *notes, *made),
        root=root,
        strict=strict,
    )


def _read(root: Path, found: ClassFolders, strict: bool) -> tuple[dict[str, list[Item]], tuple[str, ...]]:
    """Returns the images of each part, sorted by label and name, and notes on the other files."""
    files = {folder: list(walk(folder.path, found.visited)) for folder in found.folders}
    other = [path for paths in files.values() for path in paths if not is_image(path)]
    listing = {
        folder: [Item(path, folder.label, relative_name(path, root)) for path in paths if is_image(path)]
        for folder, paths in files.items()
    }
    bad = unreadable_items([item for items in listing.values() for item in items], strict=strict)
    parts: dict[str, list[Item]] = {folder.part: [] for folder in found.folders}
    for folder, items in listing.items():
        good = [item for item in items if item not in bad]
        if not good:
            first = f"{shown(Path(items[0].name).name)}: {bad[items[0]]}" if items else ""
            reason = f"no readable image: {first}" if items else "no images"
            raise DplError(f"{shown(folder.path)} has {reason}; add some ({' '.join(ENDINGS)}) or remove the folder")
        parts[folder.part].extend(sorted(good, key=lambda item: item.name))
    return parts, (*_called_like_splits(root, files), *skipped(bad), *_of_other_kinds(other))


def _called_like_splits(root: Path, files: dict[ClassFolder, list[Path]]) -> tuple[str, ...]:
    """Notes folders within a class that are named like a split, in case the user meant them as splits."""
    places = {(folder.path, path.parent) for folder, paths in files.items() for path in paths}
    inside = sorted({place for top, place in places if any(part.lower() in split.PARTS for part in place.relative_to(top).parts)})
    names = listed(shown(relative_name(place, root)) for place in inside)
    return (f"called like a split, but within a class, so taken as a plain folder: {names}",) if inside else ()


def _of_other_kinds(other: list[Path]) -> tuple[str, ...]:
    if not other:
        return ()
    endings = Counter(path.suffix.lower() or "no ending" for path in other).most_common()
    return (f"ignored files of other kinds: {listed(f'{shown(ending)} ({count})' for ending, count in endings)}",)
