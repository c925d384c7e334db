"""Which class folders a data folder has: `class name/`, or `train/`, `test/` (and `val/`) of such."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from dpl.data.paths import entries, is_image, listed, shown, with_parents
from dpl.errors import DplError

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LAYOUT = "give a folder with one folder of images per class, or with train/ and test/ of such"


@dataclass(frozen=True)
class ClassFolder:
    """One class of one part: "train", "val", "test", or "all" where the data is not split."""

    part: str
    label: int
    path: Path


@dataclass(frozen=True)
class ClassFolders:
    """All class folders of a data folder, by part and then by label."""

    class_names: tuple[str, ...]
    folders: tuple[ClassFolder, ...]
    visited: set[Path]
    """The folders found so far, resolved: where links are not to lead again."""
    notes: tuple[str, ...]


def find(root: Path) -> ClassFolders:
    """The class folders of `root`; labels are in the order of the names. Raises `DplError` where they are no task."""
    if not root.is_dir():
        raise DplError(f"{shown(root)} is {'not a folder' if root.exists() else 'missing'}: {LAYOUT}")
    visited = with_parents(root)
    parts = {part: _classes(path, visited) for part, path in _parts(root).items()}
    # Splits may spell a class in their own way ("Red_fox", "red fox"): train's way is taken.
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
    return ClassFolders(tuple(names.values()), tuple(folders), visited, _stray(root, parts))


def class_name(folder: Path) -> str:
    """The folder's name with spaces for underscores."""
    # NFC, because macOS stores accents apart; `shown`, because a tokenizer takes nothing but text.
    return " ".join(shown(unicodedata.normalize("NFC", folder.name)).replace("_", " ").split())


def _parts(root: Path) -> dict[str, Path]:
    """The folders of "train", "test" and maybe "val", or {"all": root}."""
    folders = [path for path in entries(root) if path.is_dir()]
    parts: dict[str, Path] = {}
    for path in folders:
        part = PARTS.get(path.name.lower())
        if part and part in parts:
            raise DplError(f"{shown(root)} has two folders for {part}: {parts[part].name} and {path.name}; keep one")
        if part:
            parts[part] = path
    if {"train", "test"} <= parts.keys():
        return parts
    # A class may be called "train" (a vehicle): a split is missing only where splits are all there is.
    if parts and len(parts) == len(folders) and any(child.is_dir() for path in folders for child in entries(path)):
        missing = " and ".join(f"{part}/" for part in ("train", "test") if part not in parts)
        raise DplError(f"{shown(root)} has {listed(path.name for path in folders)} but no {missing}: {LAYOUT}")
    return {"all": root}


def _classes(folder: Path, visited: set[Path]) -> dict[str, Path]:
    """The folder of every class, sorted by the classes' names."""
    visited.add(folder.resolve())
    classes: dict[str, Path] = {}
    same: dict[str, Path] = {}
    for path in entries(folder):
        if not path.is_dir():
            continue
        name = class_name(path)
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
        raise DplError(f"{shown(folder)} has no class folders: {LAYOUT}")
    return dict(sorted(classes.items()))


def _check_same(root: Path, keys: dict[str, str], others: dict[str, str], part: str, other_part: str) -> None:
    extra = [name for key, name in keys.items() if key not in others]
    if extra:
        problem = f"{other_part} lacks {len(extra)} of the classes that {part} has: {listed(extra)}"
        raise DplError(f"{shown(root)}: {problem}; all splits must have the same classes")


def _stray(root: Path, parts: dict[str, dict[str, Path]]) -> tuple[str, ...]:
    """A note on what lies beside the classes or splits, where a person may expect it to be used."""
    used = {path for classes in parts.values() for path in classes.values()}
    used |= {path.parent for path in used}
    stray = [path.name for path in entries(root) if path not in used and (path.is_dir() or is_image(path))]
    return (f"not in a class folder, so ignored: {listed(map(shown, stray))}",) if stray else ()
