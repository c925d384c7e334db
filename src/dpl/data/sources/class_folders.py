"""Finds the class folders of a data folder in any layout of `dpl.data.sources.folder_layouts`, and derives the class names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpl.data.class_names import class_name
from dpl.data.paths import entries, is_image, listed, relative_name, shown, with_parents
from dpl.data.sources.folder_layouts import LAYOUT, locate
from dpl.data.split import PARTS
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class ClassFolder:
    """One class of one part: "train", "val", "test", or "all" if the data is not split."""

    part: str
    label: int
    path: Path


@dataclass(frozen=True)
class ClassFolders:
    """All class folders of a data folder, by part and then by label."""

    class_names: tuple[str, ...]
    folders: tuple[ClassFolder, ...]
    visited: set[Path]
    """The folders found so far, resolved; links to them are not followed."""
    notes: tuple[str, ...]


def find(root: Path) -> ClassFolders:
    """Finds the class folders in `root`; labels follow the order of the class names.

    Args:
        root: data folder.

    Returns:
        Class names, class folders, resolved folders visited so far, and notes for the user.

    Raises:
        DplError: the folders are not a valid task: no or one class, two folders for one class, or splits with different
            classes.
    """
    if not root.is_dir():
        raise DplError(f"{shown(root)} is {'not a folder' if root.exists() else 'missing'}: {LAYOUT}")
    visited = with_parents(root)
    top, found = locate(root)
    visited |= with_parents(top)
    parts = {part: _classes(top, part, paths, visited) for part, paths in found.items()}
    # Splits may spell a class differently ("Red_fox", "red fox"); the spelling of train wins.
    names = {name.casefold(): name for name in parts.get("train") or parts["all"]}
    for part, classes in parts.items():
        keys = {name.casefold(): name for name in classes}
        _check_same(root, keys, names, part, "train")
        _check_same(root, names, keys, "train", part)
    if len(names) == 1:
        raise DplError(f"{shown(root)} has one class only, {listed(names.values())}; a task needs two or more")
    labels = {key: label for label, key in enumerate(names)}
    folders: list[ClassFolder] = []
    for part, classes in parts.items():
        folders += [ClassFolder(part, labels[name.casefold()], path) for name, path in classes.items()]
    folders.sort(key=lambda folder: (folder.part, folder.label))
    visited |= {folder.path.parent.resolve() for folder in folders}
    notes = _notes(root, top, folders)
    if called := [name for name in names.values() if name.casefold() in PARTS]:
        notes += (f"called like a split, but beside classes, so taken as a class: {listed(called)}",)
    return ClassFolders(tuple(names.values()), tuple(folders), visited, notes)


def _classes(top: Path, part: str, folders: Mapping[Path, str], visited: set[Path]) -> dict[str, Path]:
    """Maps class name to folder, sorted by name; `folders` maps each class folder to its name on disk."""
    classes: dict[str, Path] = {}
    same: dict[str, Path] = {}
    for path, written in folders.items():
        name = class_name(written)
        other = same.setdefault(name.casefold(), path)
        if not name:
            raise DplError(f"{shown(path)}: a class's name cannot be underscores only; rename the folder")
        if other is not path:
            raise DplError(f"{shown(other)} and {shown(path)} are one class by name, {name!r}; merge or rename them")
        if path.resolve() in visited:
            raise DplError(f"{shown(path)} links to a folder that is in the data already; remove the link")
        visited.add(path.resolve())
        classes[name] = path
    if not classes:
        raise DplError(f"{shown(top)} has no class folders{'' if part == 'all' else f' in {part}/'}: {LAYOUT}")
    return dict(sorted(classes.items()))


def _check_same(root: Path, keys: dict[str, str], others: dict[str, str], part: str, other_part: str) -> None:
    extra = [name for key, name in keys.items() if key not in others]
    if extra:
        problem = f"{other_part} lacks {len(extra)} of the classes that {part} has: {listed(extra)}"
        raise DplError(f"{shown(root)}: {problem}; all splits must have the same classes")


def _notes(root: Path, top: Path, folders: Sequence[ClassFolder]) -> tuple[str, ...]:
    """Notes where the classes are, if not in `root`, and which images and folders beside them are ignored."""
    notes = (f"classes are those in {shown(relative_name(top, root))}/",) if top != root else ()
    used = {path for folder in folders for path in (folder.path, *folder.path.parents)}
    beside = {parent for folder in folders for parent in folder.path.parents if parent in (root, top) or parent.parent == top}
    stray = [path for place in sorted(beside | {root}) for path in entries(place) if path not in used]
    stray = [relative_name(path, root) for path in stray if path.is_dir() or is_image(path)]
    return (*notes, f"not in a class folder, so ignored: {listed(map(shown, stray))}") if stray else notes
